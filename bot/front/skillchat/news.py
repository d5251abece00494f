"""What a person is told of their skills: news, progress in the message that it began in, and the one offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front.outbox import Outbox
from bot.front.skillchat import pages
from bot.front.skillchat.sets import Sets
from bot.front.talk import Talk, escape
from bot.settings import Settings
from bot.skills import holdings
from bot.skills.holdings import Holding
from bot.skills.names import BadName, SkillName, checked_version, skill_name
from bot.store import Database, now
from bot.store.tables import (
    Announcement,
    Instance,
    News,
    SkillLock,
    SkillPerson,
    SkillProgress,
    SkillRecall,
    SkillSource,
    SkillState,
    SkillStatus,
    SkillWanted,
    SkillWish,
    User,
    UserStatus,
    Wanted,
    Wish,
)
from bot.users import people

#: Kinds of news that are ours, and how each is shown in a message that follows a skill.
_KINDS = {
    News.SKILL_INSTALLED: SkillStatus.INSTALLED,
    News.SKILL_UPDATED: SkillStatus.INSTALLED,
    News.SKILL_FAILED: SkillStatus.FAILED,
    News.SKILL_ASKS: SkillStatus.ASKS,
    News.SKILL_RECALLED: "gone",
}
#: Kinds that are no news to somebody who asked for nothing: what comes with a plan, or cannot.
_OF_WISHES = frozenset({News.SKILL_INSTALLED, News.SKILL_FAILED})
#: How a message that follows a skill ends.
_ENDS = frozenset({SkillStatus.INSTALLED, SkillStatus.FAILED, SkillStatus.ASKS, "gone"})
#: Seconds for which the end that the findings tell still waits for the news of it, and after which nobody follows.
_NEWS_WITHIN = 30.0
_FOLLOWED = 24 * 3600.0
_MOST = 50
_LONGEST = 400


class SkillNews:
    """Tells in the caller's transaction, or one of its own."""

    def __init__(self, settings: Settings, database: Database, outbox: Outbox, talk: Talk) -> None:
        self._sets = Sets(settings.skill_sets)
        self._offers = settings.skills_url is not None
        self._database = database
        self._outbox = outbox
        self._talk = talk

    async def tell(self, session: AsyncSession, user: User, news: Sequence[Announcement]) -> None:
        """What the provisioner has found out about the person's skills."""
        mine = [(one, name) for one in news if one.news in _KINDS and (name := _name(one.detail)) is not None]
        if not mine:
            return
        titles = await holdings.titles_of(session, {name for _, name in mine})
        followed = {SkillName(row.owner, row.slug): row for row in await _followed(session, user.telegram_id)}
        lines, changed, loud = [], set(), False
        for one, name in mine:
            row = followed.get(name)
            if one.news == News.SKILL_RECALLED:
                await _give_up(session, user, name)
            if one.news == News.SKILL_ASKS:
                await self._ask(session, user, name, titles[name], one.detail)
                await self._forget(session, row)
            elif row is not None and one.news != News.SKILL_RECALLED:
                row.shown, row.detail = _KINDS[News(one.news)], _failure(one)
                changed.add(row.message_id)
            elif one.news not in _OF_WISHES or await _asked_for(session, user, name):
                lines.append(_line(one, titles[name]))
                loud = loud or one.news in (News.SKILL_FAILED, News.SKILL_RECALLED)
                await self._forget(session, row)
        for message_id in changed:
            rows = await self._show(session, user.telegram_id, message_id)
            # Nothing more comes of it.
            if all(row.shown in _ENDS for row in rows):
                for row in rows:
                    await session.delete(row)
        if lines:
            await self._talk.say(session, user.telegram_id, "\n".join(lines), silent=not loud)

    async def look(self) -> None:
        """Bring messages that follow skills up to date, and make the offers that are due."""
        async with self._database.read() as session:
            followed = list(await session.scalars(select(SkillProgress.telegram_id).distinct().limit(_MOST)))
            due = select(SkillPerson.telegram_id).where(SkillPerson.offer_at <= now()).limit(_MOST)
            offers = list(await session.scalars(due))
        for telegram_id in followed:
            if await self._differs(telegram_id):
                async with self._database.write() as session:
                    await self._follow(session, telegram_id)
                self._outbox.ring()
        for telegram_id in offers:
            async with self._database.write() as session:
                await self._offer(session, telegram_id)
            self._outbox.ring()

    async def _differs(self, telegram_id: int) -> bool:
        async with self._database.read() as session:
            found = await _compare(session, telegram_id)
        return any(row.shown != shown or over for row, shown, _, over in found)

    async def _follow(self, session: AsyncSession, telegram_id: int) -> None:
        changed, ended = set(), []
        for row, shown, detail, over in await _compare(session, telegram_id):
            if row.shown != shown:
                row.shown, row.detail = shown, detail
                changed.add(row.message_id)
            if over:
                ended.append(row)
        for message_id in changed:
            await self._show(session, telegram_id, message_id)
        for row in ended:
            await session.delete(row)

    async def _show(self, session: AsyncSession, telegram_id: int, message_id: int) -> Sequence[SkillProgress]:
        """Edit a message to how far the skills in it are; these."""
        mine = SkillProgress.telegram_id == telegram_id, SkillProgress.message_id == message_id
        rows = list(await session.scalars(select(SkillProgress).where(*mine).order_by(SkillProgress.slug)))
        titles = await holdings.titles_of(session, {SkillName(row.owner, row.slug) for row in rows})
        await self._talk.edit(session, telegram_id, message_id, *pages.progress(rows, titles))
        return rows

    async def _offer(self, session: AsyncSession, telegram_id: int) -> None:
        person = await session.get(SkillPerson, telegram_id, with_for_update=True)
        if person is None or person.offer_at is None:
            return
        person.offer_at = None
        user = await people.find(session, telegram_id)
        wish = await session.get(Wish, user.id) if user is not None else None
        if user is None or user.status != UserStatus.ACTIVE or wish is None or wish.wanted == Wanted.ABSENT:
            return
        needs = self._sets.now().needs
        if needs and self._offers:
            await self._talk.say(session, telegram_id, *pages.offer(needs), silent=True)

    async def _ask(
        self, session: AsyncSession, user: User, name: SkillName, title: str, detail: Mapping[str, Any]
    ) -> None:
        held: Holding | None = next(
            (one for one in await holdings.of_person(session, user.id) if one.name == name), None
        )
        asks = detail.get("asks")
        version = _version(detail)
        page = pages.asks(
            name, title, version, asks if isinstance(asks, Mapping) else {}, held.version if held else None
        )
        await self._talk.say(session, user.telegram_id, *page)

    async def _forget(self, session: AsyncSession, row: SkillProgress | None) -> None:
        if row is not None:
            await session.delete(row)
            await session.flush()


async def _followed(session: AsyncSession, telegram_id: int) -> list[SkillProgress]:
    return list(await session.scalars(select(SkillProgress).where(SkillProgress.telegram_id == telegram_id)))


async def _compare(session: AsyncSession, telegram_id: int) -> list[tuple[SkillProgress, str, str, bool]]:
    """What each followed skill should show, with its sentence; and whether nothing more comes of it."""
    user_id = await session.scalar(select(User.id).where(User.telegram_id == telegram_id))
    instance_id = await session.scalar(select(Instance.id).where(Instance.user_id == user_id))
    found = []
    for row in await _followed(session, telegram_id):
        state = await session.get(SkillState, (instance_id or "", row.owner, row.slug))
        wish = await session.get(SkillWish, (user_id or 0, row.owner, row.slug))
        shown, detail = row.shown, row.detail
        old = now() - row.since > _FOLLOWED
        # One that was there before says nothing about what was asked for since.
        if state is not None and state.updated_at >= row.since:
            shown, detail = str(state.state), state.detail if state.state == SkillStatus.FAILED else ""
            old = old or (shown in _ENDS and now() - state.updated_at > _NEWS_WITHIN)
        elif state is None and wish is not None and wish.wanted == SkillWanted.ABSENT:
            there = select(SkillLock.version).where(
                SkillLock.instance_id == instance_id, SkillLock.owner == row.owner, SkillLock.slug == row.slug
            )
            if await session.scalar(there.limit(1)) is None:
                shown, detail, old = "gone", "", True
        found.append((row, shown, detail, old))
    return found


async def _give_up(session: AsyncSession, user: User, name: SkillName) -> None:
    """Of a skill that was recalled as a whole nothing more can be had: wishing for it on would only fail."""
    query = select(SkillRecall.id).where(
        SkillRecall.owner == name.owner,
        SkillRecall.slug == name.slug,
        SkillRecall.version.is_(None),
        SkillRecall.lifted_at.is_(None),
    )
    wish = await session.get(SkillWish, (user.id, name.owner, name.slug))
    if wish is not None and await session.scalar(query.limit(1)) is not None:
        wish.wanted, wish.asked_at = SkillWanted.ABSENT, now()


async def _asked_for(session: AsyncSession, user: User, name: SkillName) -> bool:
    """Whether the person, or an operator for them, wanted it; what comes with the plan is no news."""
    wish = await session.get(SkillWish, (user.id, name.owner, name.slug))
    return wish is not None and wish.source != SkillSource.PLAN


def _line(one: Announcement, title: str) -> str:
    says, name = _says(one.detail), f"<b>{escape(title)}</b>"
    match one.news:
        case News.SKILL_INSTALLED:
            return f"✅ {name} is there."
        case News.SKILL_UPDATED:
            return f"⬆️ {name} is up to date ({escape(_version(one.detail) or 'the newest version')})."
        case News.SKILL_RECALLED:
            return f"🛑 {name}: {escape(says or 'it was taken back, and your assistant no longer has it.')}"
        case _:
            return f"😕 {name}: {escape(says or 'it could not be installed.')}"


def _failure(one: Announcement) -> str:
    return _says(one.detail) if one.news == News.SKILL_FAILED else ""


def _says(detail: Mapping[str, Any]) -> str:
    return " ".join(str(detail.get("says") or "").split())[:_LONGEST]


def _name(detail: Mapping[str, Any]) -> SkillName | None:
    """The skill; None for what is none, which stands in nobody's way."""
    try:
        return skill_name(str(detail.get("owner")), str(detail.get("slug")))
    except BadName:
        return None


def _version(detail: Mapping[str, Any]) -> str | None:
    try:
        return checked_version(str(detail.get("version") or ""))
    except BadName:
        return None
