"""What a person sees while their instance is not up: one message, edited as stages pass, and never a second one."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from bot.front.talk import Talk
from bot.store import now
from bot.store.tables import ContainerState, Instance, Waiting

#: Seconds before a wake is worth a message, and before either takes longer than it should.
QUIET = 4.0
LONG = 90.0


class Notice(StrEnum):
    """What the message says."""

    CREATING = "creating"
    STARTING = "starting"
    WAKING = "waking"
    RESTORING = "restoring"
    BUSY = "busy"
    LONG = "long"
    FAILED = "failed"
    LOST = "lost"


_TEXTS = {
    Notice.CREATING: (
        "⏳ <b>Setting up an assistant of your own.</b> It gets what you write as soon as it is up.\n\n"
        "▸ Making its space…\n▹ Starting it"
    ),
    Notice.STARTING: (
        "⏳ <b>Setting up an assistant of your own.</b> It gets what you write as soon as it is up.\n\n"
        "✓ Its space is made\n▸ Starting it…"
    ),
    Notice.WAKING: "⏳ Your assistant is waking up…",
    Notice.RESTORING: "📦 Your assistant was packed away and is being unpacked. This takes about a minute…",
    Notice.BUSY: (
        "⏳ Many assistants are busy right now; yours is among the next. "
        "Your messages are kept, and it answers as soon as there is room."
    ),
    Notice.LONG: (
        "⏳ Your assistant takes longer than usual to start. Your messages are kept, "
        "and it answers as soon as it is up."
    ),
    Notice.FAILED: (
        "😔 I am sorry, your assistant cannot start right now. The people who run this bot can see why. "
        "Your messages are kept for a day and go to it as soon as it is back."
    ),
    Notice.LOST: (
        "😔 I am sorry: your assistant could not take what you sent within a day, so those messages are dropped. "
        "Please send again what still matters."
    ),
}
_READY = "✅ <b>Your assistant is ready.</b> /help says what you can do here."


class Notices:
    """Keeps the message in step, in the caller's transaction."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    async def begin(self, session: AsyncSession, telegram_id: int, *, setup: bool) -> Waiting:
        """The person waits from now on; a setup is told at once, a wake only where it takes a while."""
        waiting = await session.get(Waiting, telegram_id)
        if waiting is None:
            waiting = Waiting(telegram_id=telegram_id, since=now(), setup=setup, outbox_id=None, shown=None)
            session.add(waiting)
            if setup:
                await self._show(session, waiting, Notice.CREATING)
            await session.flush()
        return waiting

    async def advance(
        self, session: AsyncSession, telegram_id: int, instance: Instance | None, *, queued: bool = False
    ) -> None:
        """Show the stage that the instance is in, where it is another than the one shown; as :func:`due`."""
        waiting = await session.get(Waiting, telegram_id, with_for_update=True)
        # That messages were lost stays said until the instance is up.
        if waiting is None or waiting.shown == Notice.LOST:
            return
        notice = due(waiting, instance, now(), queued=queued)
        if notice is not None and notice != waiting.shown:
            await self._show(session, waiting, notice)

    async def end(self, session: AsyncSession, telegram_id: int) -> None:
        """The instance is up: the message says so after a setup or a failure, and goes after a mere wake."""
        waiting = await session.get(Waiting, telegram_id, with_for_update=True)
        if waiting is None:
            return
        if waiting.outbox_id is not None:
            message = {"outbox": waiting.outbox_id}
            if waiting.shown == Notice.LOST:
                await self._talk.say(session, telegram_id, _READY)
            elif waiting.setup or waiting.shown == Notice.FAILED:
                await self._talk.edit(session, telegram_id, message, _READY)
            else:
                await self._talk.remove(session, telegram_id, message)
        await session.delete(waiting)

    async def lost(self, session: AsyncSession, telegram_id: int) -> None:
        """Messages expired; told once, in a message of its own, until the instance is up."""
        waiting = await self.begin(session, telegram_id, setup=False)
        if waiting.shown != Notice.LOST:
            waiting.outbox_id = None
            await self._show(session, waiting, Notice.LOST)

    async def drop(self, session: AsyncSession, telegram_id: int) -> None:
        """Nobody waits any more, and there is nothing to tell."""
        waiting = await session.get(Waiting, telegram_id, with_for_update=True)
        if waiting is None:
            return
        if waiting.outbox_id is not None and waiting.shown != Notice.LOST:
            await self._talk.remove(session, telegram_id, {"outbox": waiting.outbox_id})
        await session.delete(waiting)

    async def _show(self, session: AsyncSession, waiting: Waiting, notice: Notice) -> None:
        text = _TEXTS[notice]
        if waiting.outbox_id is None:
            waiting.outbox_id = await self._talk.say(session, waiting.telegram_id, text)
        else:
            await self._talk.edit(session, waiting.telegram_id, {"outbox": waiting.outbox_id}, text)
        waiting.shown = notice


def due(waiting: Waiting, instance: Instance | None, at: float, *, queued: bool = False) -> Notice | None:
    """What the person should be shown at this time; None: nothing yet.

    `queued`: the instance could come up, but the machine has no room for it yet.
    """
    if instance is not None and instance.failure is not None:
        return Notice.FAILED
    waited = at - waiting.since
    if queued and waited >= QUIET:
        return Notice.BUSY
    if waited >= LONG:
        return Notice.LONG
    if instance is not None and instance.archive is not None:
        return Notice.RESTORING
    if not waiting.setup:
        return Notice.WAKING if waited >= QUIET else None
    running = instance is not None and instance.container == ContainerState.RUNNING
    return Notice.STARTING if running else Notice.CREATING


def next_change(waiting: Waiting, at: float) -> float | None:
    """Seconds until time alone changes the notice; None: it does not."""
    waited = at - waiting.since
    if not waiting.setup and waited < QUIET:
        return QUIET - waited
    return LONG - waited if waited < LONG else None
