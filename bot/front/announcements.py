"""Announcements: what the provisioner found out and a person is told, once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front.callbacks import Press
from bot.front.context import FrontContext
from bot.front.inbox import DATABASE_ERRORS, reason
from bot.front.outbox import Outbox
from bot.front.talk import Button, Talk, escape
from bot.nudge import Topic
from bot.store import now
from bot.store.tables import Announcement, Instance, News, User, UserStatus, Wanted, Wish
from bot.users import people, zones

_log = structlog.get_logger(__name__)

#: The action of the button that keeps an instance awake.
AWAKE: Final = "awake"

#: Announcements looked at, and late jobs named in one message.
_AT_ONCE = 100
_MOST_JOBS = 10
#: Characters of a job's name, which is the instance's own choice.
_LONGEST_NAME = 80

_REST = {
    "stopped": (
        "💤 You have not written for a while, so your assistant is going to rest more deeply{when}. "
        "Nothing is lost, and its scheduled jobs still run. "
        "Your next message brings it back; that takes a few seconds longer than usual."
    ),
    "archived": (
        "📦 You have not written for a long while, so your assistant is going to be packed away{when}. "
        "Nothing is lost, and its scheduled jobs still run. "
        "Your next message brings it back, which takes about a minute."
    ),
}
_LATE = "⏰ A job of your assistant runs late: {job}."
_LATE_JOBS = "⏰ Some jobs of your assistant run late:\n{jobs}"
_KEPT = "☀️ Your assistant stays awake until {when}."

_NEWS = Announcement.news != News.DELETED

_SUSPENDED = "Your access is suspended, so your assistant stays stopped."
_LEAVING = "Your assistant is being deleted."
_NOBODYS = "You have no assistant here. Send me a message to get one."


class Announcer:
    """Tells people in a transaction that also notes it, so that a crash neither repeats nor loses a word."""

    def __init__(self, context: FrontContext, outbox: Outbox) -> None:
        self._database = context.database
        self._nudge = context.nudge
        self._outbox = outbox
        self._talk = Talk(context, outbox)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            seen = self._nudge.seen(Topic.INSTANCES)
            try:
                await self.look()
            except DATABASE_ERRORS as error:
                if self._database.trouble.reason is None:
                    _log.error("the announcements cannot be looked at; it is tried again", reason=reason(error))
            await self._nudge.wait(Topic.INSTANCES, seen)

    async def look(self) -> None:
        """Tell what is untold."""
        # What was removed of somebody who leaves is part of their receipt.
        untold = select(Announcement.telegram_id).where(Announcement.told_at.is_(None), _NEWS)
        async with self._database.read() as session:
            found = dict.fromkeys(await session.scalars(untold.order_by(Announcement.id).limit(_AT_ONCE)))
        for telegram_id in found:
            async with self._database.write() as session:
                await self._tell(session, telegram_id)
            self._outbox.ring()

    async def _tell(self, session: AsyncSession, telegram_id: int) -> None:
        user = await people.find(session, telegram_id)
        mine = Announcement.telegram_id == telegram_id, Announcement.told_at.is_(None), _NEWS
        query = select(Announcement).where(*mine).order_by(Announcement.id).with_for_update()
        news = list(await session.scalars(query))
        if user is None:
            for one in news:
                await session.delete(one)
            return
        for one in news:
            one.told_at = now()
        wish = await session.get(Wish, user.id)
        if user.status != UserStatus.ACTIVE or wish is None or wish.wanted == Wanted.ABSENT:
            return
        late = [one.detail for one in news if one.news == News.LATE_JOB]
        if late:
            await self._talk.say(session, telegram_id, _late_text(user, late))
        rest = [one.detail for one in news if one.news == News.LONG_SLEEP]
        resting = select(Instance.resting_since).where(Instance.user_id == user.id)
        # Whoever wrote since then has an instance that is up again.
        if rest and await session.scalar(resting) is not None:
            keep = [[Button("Keep it awake", Press(AWAKE))]]
            # Nobody is woken for it.
            await self._talk.say(session, telegram_id, _rest_text(user, rest[-1]), keep, silent=True)


async def keep_awake(session: AsyncSession, talk: Talk, user: User, message_id: int) -> tuple[str, bool]:
    """The button “Keep it awake” in this message: what the person sees for a moment, and whether it did something."""
    if user.status == UserStatus.SUSPENDED:
        return _SUSPENDED, False
    wish = await session.get(Wish, user.id)
    if wish is None:
        return _NOBODYS, False
    until = await people.keep_awake(session, user)
    if until is None:
        return _LEAVING, False
    if user.status == UserStatus.BLOCKED:
        # Who presses a button has let the bot in again.
        user.status = UserStatus.ACTIVE
    text = _KEPT.format(when=zones.moment(user.timezone, until, now()))
    await talk.edit(session, user.telegram_id, message_id, text)
    return text, True


def _rest_text(user: User, detail: dict[str, Any]) -> str:
    when = _moment(user, detail.get("at"))
    return _REST["archived" if detail.get("rest") == "archived" else "stopped"].format(when=f" {when}" if when else "")


def _late_text(user: User, details: Sequence[dict[str, Any]]) -> str:
    jobs = [_job(user, detail) for detail in details]
    if len(jobs) == 1:
        return _LATE.format(job=jobs[0])
    more = [f"and {len(jobs) - _MOST_JOBS} more"] if len(jobs) > _MOST_JOBS else []
    return _LATE_JOBS.format(jobs="\n".join(f"• {job}" for job in [*jobs[:_MOST_JOBS], *more]))


def _job(user: User, detail: dict[str, Any]) -> str:
    name = " ".join(str(detail.get("name") or "").split())[:_LONGEST_NAME] or "without a name"
    when = _moment(user, detail.get("due_at"))
    return f"<b>{escape(name)}</b>, due {when}" if when else f"<b>{escape(name)}</b>"


def _moment(user: User, at: object) -> str | None:
    """When that is to the person; None for what is no time."""
    if not isinstance(at, int | float):
        return None
    try:
        return zones.moment(user.timezone, at, now())
    except ValueError:
        return None
