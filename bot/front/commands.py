"""Zaki's own commands: /start, /help, /status, /privacy and /delete."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front import farewell
from bot.front.callbacks import Press
from bot.front.context import FrontContext
from bot.front.menu import COMMANDS
from bot.front.notices import Notices
from bot.front.onboarding import Questions
from bot.front.outbox import Outbox
from bot.front.talk import Button, Talk, escape
from bot.front.updates import Command, Sender
from bot.store import now
from bot.store.states import InstanceState, derive_state
from bot.store.tables import Instance, Onboarding, Operation, OperationKind, UsageDay, User, UserStatus, Wanted, Wish
from bot.users import admission, people, zones
from bot.users.plans import PLANS

#: The action of the buttons that confirm a deletion.
DELETE = "del"
#: Seconds for which a confirmation may be given: a button found much later was not meant.
_CONFIRM_WITHIN = 15 * 60
#: Seconds by which the clock may have been put back since.
_CONFIRM_AHEAD = 60
_CODE = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")

_WELCOME = """\
👋 <b>Hi{name}!</b> I am Zaki. Everybody who writes here gets a private assistant of their own: \
it has its own memory, files and skills, and nobody else can use it.

Ask it anything, send it files, have it remember things or remind you of them. \
Two short questions first; skip them if you like, and just write."""

_WELCOME_BACK = "👋 <b>Welcome back{name}!</b> Your assistant is here. Just write to it."

_HELP = """\
<b>Just write.</b> Everything that you send here goes to your private assistant, except these commands:

{commands}

All other commands, such as /new or /model, are your assistant's own."""

_PRIVACY = """\
<b>What is stored about you</b>
• Your Telegram id, name, username and language, as Telegram gives them, and the name and time zone you told me.
• Messages on their way: each is kept until your assistant has it, or for a day. \
Replies are kept until Telegram has them, and for a short while after.
• When things happened, such as “delivered”, for two weeks; and how much of the AI model you used.
• In your assistant: your conversations, its memory and its files. It runs separately from everybody else's.

To answer, your assistant sends your conversation to the AI model that the people who run this bot have chosen.

/delete removes all of it and tells you what that was. What stays are counts of model use under a random number that \
points to nobody."""

_CONFIRM = """\
<b>Delete your assistant?</b>
Its memory, files and conversations are removed for good, and so is what is stored about you here. \
Nobody can bring them back. This chat itself stays on Telegram until you clear it."""

_CONFIRM_STORED = """\
<b>Delete what is stored about you?</b>
You have no assistant here; what is stored is your Telegram id, name, username and language, and when you wrote."""

_DELETING = "Deleting your assistant…"

#: The end of the sentence “Your assistant …”.
_STATES = {
    InstanceState.ABSENT: "is being set up",
    InstanceState.CREATING: "is being set up",
    InstanceState.WAKING: "is waking up",
    InstanceState.AWAKE: "is awake",
    InstanceState.SLEEPING: "is falling asleep and wakes up when you write",
    InstanceState.ASLEEP: "is asleep and wakes up when you write",
    InstanceState.STOPPED: "is stopped; when you write, it takes a few seconds to come back",
    InstanceState.ARCHIVED: "is packed away; when you write, it takes about a minute to come back",
    InstanceState.FAILED: "cannot run right now; the people who run this bot can see why",
    InstanceState.DELETING: "is being deleted",
}
_NOT_UP = frozenset((InstanceState.WAKING, InstanceState.STOPPED))

_NO_ASSISTANT = "You have no assistant here yet. Send any message to get one."


class Commands:
    """Answers a person's commands in the caller's transaction."""

    def __init__(
        self, context: FrontContext, outbox: Outbox, talk: Talk, questions: Questions, notices: Notices
    ) -> None:
        self._settings = context.settings
        self._outbox = outbox
        self._talk = talk
        self._questions = questions
        self._notices = notices

    async def answer(self, session: AsyncSession, sender: Sender, command: Command) -> None:
        """One of :data:`bot.front.menu.COMMANDS`."""
        match command.name:
            case "start":
                await self._start(session, sender, command.argument)
            case "help":
                listed = "\n".join(f"/{name} – {escape(meaning)}" for name, meaning in COMMANDS)
                await self._talk.say(session, sender.telegram_id, _HELP.format(commands=listed))
            case "privacy":
                await self._talk.say(session, sender.telegram_id, _PRIVACY)
            case "status":
                await self._status(session, sender)
            case _:
                await self._ask_to_delete(session, sender)

    async def confirm_deletion(self, session: AsyncSession, user: User, press: Press, message_id: int) -> None:
        """The answer to the question that /delete asks."""
        decision, _, asked_at = press.argument.partition(".")
        wish = await session.get(Wish, user.id)
        if wish is not None and wish.wanted == Wanted.ABSENT:
            await self._talk.edit(session, user.telegram_id, message_id, _DELETING)
            return
        if decision != "yes":
            await self._talk.edit(session, user.telegram_id, message_id, "Nothing was deleted.")
            return
        # One from the future was asked before the clock was put back.
        if not -_CONFIRM_AHEAD <= now() - int(asked_at) <= _CONFIRM_WITHIN:
            text = "This question is too old, so nothing was deleted. Send /delete again if you mean it."
            await self._talk.edit(session, user.telegram_id, message_id, text)
            return
        telegram_id = user.telegram_id
        await self._notices.drop(session, telegram_id)
        done = await farewell.begin(session, user, self._outbox.spool.folder)
        if done is None:
            await self._talk.edit(session, telegram_id, message_id, _DELETING)
            return
        self._outbox.discard_after(session, done.files)
        if done.goodbye is not None:
            await self._talk.edit(session, telegram_id, message_id, done.goodbye)

    async def _start(self, session: AsyncSession, sender: Sender, argument: str) -> None:
        user = await people.remember(session, sender.telegram_id, sender.first_name, sender.username, sender.language)
        code = argument if _CODE.match(argument) else ""
        decision = await admission.admit(session, self._settings, user, code)
        if decision.refused is not None:
            # A code is a question that wants its own answer each time.
            if admission.tell_once(user) or decision.refused is admission.Refused.CODE:
                await self._talk.say(session, user.telegram_id, decision.refused.sentence)
            return
        name = f", {escape(user.call_name or user.first_name)}" if user.call_name or user.first_name else ""
        done = user.onboarding == Onboarding.DONE
        await self._talk.say(session, user.telegram_id, (_WELCOME_BACK if done else _WELCOME).format(name=name))
        await people.wish(session, user, Wanted.AWAKE)
        if decision.new:
            await self._notices.begin(session, user.telegram_id, setup=True)
        await self._questions.ask(session, user)

    async def _status(self, session: AsyncSession, sender: Sender) -> None:
        user = await people.find(session, sender.telegram_id)
        if user is None or user.status == UserStatus.REFUSED:
            await self._talk.say(session, sender.telegram_id, _NO_ASSISTANT)
            return
        instance = (await session.scalars(select(Instance).where(Instance.user_id == user.id))).one_or_none()
        wish = await session.get(Wish, user.id)
        operation = await _operation(session, instance)
        lines = [f"Your assistant <b>{_state(user, wish, instance, operation)}</b>."]
        if instance is not None:
            lines += _schedule(user, wish, instance)
        waiting = await people.count_waiting(session, user.telegram_id)
        if waiting > 0:
            lines.append(f"Messages that wait for it: {waiting}.")
        if instance is not None:
            day = datetime.now(UTC).strftime("%Y-%m-%d")
            used = await session.get(UsageDay, (instance.id, day))
            most = PLANS[user.plan].daily_tokens(self._settings)
            lines.append(f"Model use today: {used.tokens if used else 0:,} of {most:,} tokens.")
        lines.append(f"It calls you {escape(user.call_name)}." if user.call_name else "You gave it no name of yours.")
        if user.timezone:
            lines.append(f"Its time zone is {escape(user.timezone)} ({zones.clock(user.timezone)} now).")
        await self._talk.say(session, user.telegram_id, "\n".join(lines))

    async def _ask_to_delete(self, session: AsyncSession, sender: Sender) -> None:
        user = await people.find(session, sender.telegram_id)
        if user is None:
            await self._talk.say(session, sender.telegram_id, _NO_ASSISTANT)
            return
        text = _CONFIRM if await session.get(Wish, user.id) is not None else _CONFIRM_STORED
        yes = Button("Delete everything", Press(DELETE, f"yes.{int(now())}"))
        await self._talk.say(session, sender.telegram_id, text, [[yes, Button("Keep it", Press(DELETE, "no"))]])


async def _operation(session: AsyncSession, instance: Instance | None) -> OperationKind | None:
    """What is being done to it."""
    if instance is None:
        return None
    mine = Operation.instance_id == instance.id, Operation.finished_at.is_(None)
    kind = await session.scalar(select(Operation.kind).where(*mine))
    return OperationKind(kind) if kind is not None else None


def _state(user: User, wish: Wish | None, instance: Instance | None, operation: OperationKind | None) -> str:
    """The end of the sentence “Your assistant …”."""
    if user.status == UserStatus.SUSPENDED:
        return "is suspended by the people who run this bot"
    if wish is not None and wish.wanted == Wanted.ABSENT:
        return "is being deleted"
    state = derive_state(instance, operation)
    if operation == OperationKind.RESTORE or (state is InstanceState.WAKING and instance and instance.archive):
        return "is being unpacked; that takes about a minute"
    if instance is not None and instance.met_generation == 0 and state in _NOT_UP:
        return "is being set up"
    return _STATES[state]


def _schedule(user: User, wish: Wish | None, instance: Instance) -> list[str]:
    """When it does something by itself, a line each."""
    at, lines = now(), []
    kept = people.kept_awake_until(wish, at) if wish is not None else None
    if kept is not None:
        lines.append(f"You asked it to stay awake until {zones.moment(user.timezone, kept, at)}.")
    if instance.resting_since is not None and instance.next_job_at is not None and instance.next_job_at > at:
        lines.append(f"It wakes up for its next job {zones.moment(user.timezone, instance.next_job_at, at)}.")
    return lines
