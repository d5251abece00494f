"""Where people choose skills: the command, its buttons, and what is looked up behind them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog
from sqlalchemy import delete, event
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front.callbacks import Press
from bot.front.context import FrontContext
from bot.front.menu import SKILL_QUESTION
from bot.front.outbox import Outbox
from bot.front.skillchat import pages
from bot.front.skillchat.catalogue import Catalogue
from bot.front.skillchat.interests import Interests
from bot.front.skillchat.keys import skill_of, version_key, version_of, versions_key
from bot.front.skillchat.pages import Page
from bot.front.skillchat.presses import OFFERED, SKILLS, Verb
from bot.front.skillchat.recommendations import recommend
from bot.front.skillchat.sets import Sets
from bot.front.skills.errors import SkillError
from bot.front.skills.standing import newest, unwanted
from bot.front.talk import MessageRef, Talk
from bot.skills import holdings, people, wishes
from bot.skills.holdings import Holding
from bot.skills.names import BadName, Reference, SkillName, parse
from bot.skills.sets import SkillSet
from bot.store import now
from bot.store.tables import (
    Skill,
    SkillPolicy,
    SkillProgress,
    SkillSource,
    SkillVersion,
    User,
    UserStatus,
    Wanted,
    Wish,
)
from bot.users import people as users

__all__ = ["SKILLS", "SkillCounter"]

_log = structlog.get_logger(__name__)

#: Characters of what somebody looks for.
_LONGEST = 120
#: People whose questions are being looked up at a time.
_AT_ONCE = 4
#: Questions that one person may have looked up within so many seconds: each may fetch and vet several skills.
_QUESTIONS, _PER = 20, 600.0

_NO_ASSISTANT = "You have no assistant here yet. Send any message to get one, and then /skills."
_SUSPENDED = "Your access is suspended, so nothing can be changed."
_LEAVING = "Your assistant is being deleted."
_GONE = "This skill is no longer known; /skills shows what there is."
_CHANGED = "There is another version by now; this is how it stands."
_TOO_MANY = "That were many questions in a short time. Try again in a few minutes."
_BROKEN = "😕 That did not work. Try again in a moment."

Looked = Callable[[AsyncSession, User], Awaitable[Page]]


class SkillCounter:
    """Answers in the caller's transaction; what takes longer follows as an edit of that answer."""

    def __init__(
        self, context: FrontContext, outbox: Outbox, talk: Talk, catalogue: Catalogue, interests: Interests
    ) -> None:
        self._database = context.database
        self._sets = Sets(context.settings.skill_sets)
        self._outbox = outbox
        self._talk = talk
        self._catalogue = catalogue
        self._interests = interests
        self._room = asyncio.Semaphore(_AT_ONCE)
        #: What is being looked up, by person.
        self._looking: dict[int, asyncio.Task[None]] = {}
        self._asked: dict[int, deque[float]] = {}

    async def close(self) -> None:
        """Leave what is being looked up."""
        tasks = list(self._looking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def command(self, session: AsyncSession, telegram_id: int, words: str) -> None:
        """`/skills`, alone or with words to look for."""
        user = await users.find(session, telegram_id)
        refusal = await _refusal(session, user)
        if user is None or refusal is not None:
            await self._talk.say(session, telegram_id, refusal or _NO_ASSISTANT)
        elif words:
            await self._search(session, user, words)
        else:
            # Who comes by themselves needs no offer.
            (await people.chosen(session, telegram_id)).offer_at = None
            await self._talk.say(session, telegram_id, *await self._mine(session, user, 0))

    async def reply(self, session: AsyncSession, user: User, text: str) -> None:
        """What the person typed to our question."""
        refusal = await _refusal(session, user)
        if refusal is not None:
            await self._talk.say(session, user.telegram_id, refusal)
        elif text.strip():
            await self._search(session, user, text)
        else:
            await self._talk.ask(session, user.telegram_id, SKILL_QUESTION, "What it should do")

    async def press(self, session: AsyncSession, user: User, press: Press, message_id: int) -> str | None:
        """A button; what the person sees for a moment, where something keeps it from working."""
        refusal = await _refusal(session, user)
        if refusal is not None:
            return refusal
        verb, *words = press.argument.split(".")
        if verb == Verb.ASK:
            await self._talk.ask(session, user.telegram_id, SKILL_QUESTION, "What it should do")
            return None
        # The message becomes something else than the progress of what was installed from it.
        mine = SkillProgress.telegram_id == user.telegram_id, SkillProgress.message_id == message_id
        await session.execute(delete(SkillProgress).where(*mine))
        page = await self._page_of(session, user, Verb(verb), words, message_id)
        if isinstance(page, str):
            return page
        if page is not None:
            await self._talk.edit(session, user.telegram_id, message_id, *page)
        return None

    async def _page_of(
        self, session: AsyncSession, user: User, verb: Verb, words: Sequence[str], message_id: int
    ) -> Page | str | None:
        """What the message shows now; a sentence where it stays, None where that is looked up first."""
        match verb:
            case Verb.LIST:
                return await self._mine(session, user, int(words[0]) if words else 0)
            case Verb.HINTS:
                return await self._hints(session, user)
            case Verb.NEEDS:
                return pages.by_need(self._sets.now().needs)
            case Verb.LATER:
                return pages.LATER, ()
            case Verb.OPTIONS:
                return await self._options(session, user, words)
            case Verb.NEED | Verb.ADD_SET:
                need = self._sets.now().need(words[0])
                if need is None:
                    return _GONE
                first = OFFERED in words
                if verb == Verb.ADD_SET:
                    return await self._add_set(session, user, need, words[1:], message_id, first=first)
                return await self._need(session, user, need, message_id, first=first)
            case _:
                return await self._about(session, user, verb, words, message_id)

    async def _about(
        self, session: AsyncSession, user: User, verb: Verb, words: Sequence[str], message_id: int
    ) -> Page | str | None:
        """A button about one skill."""
        having = await _having(session, user)
        likely = [*having, *(skill.name for need in self._sets.now().needs for skill in need.skills)]
        name = await skill_of(session, words[0], likely)
        if name is None:
            return _GONE
        held = having.get(name)
        match verb:
            case Verb.ADD if held is None or not held.wanted:
                version = await version_of(session, name, words[1]) if len(words) > 1 else None
                if version is not None:
                    return await self._add(session, user, name, version, message_id)
            case Verb.REMOVE if held is not None:
                await wishes.unwant(session, user.id, name, SkillSource.PERSON)
                return await self._follow(session, user, [name], message_id)
            case Verb.POLICY if held is not None:
                return await self._policy(session, user, held, words[1:])
            case Verb.UPDATE | Verb.KEEP if held is not None:
                return await self._decide(session, user, held, verb, words[1], message_id)
        return await self._show(session, user, name, held, message_id)

    async def _mine(self, session: AsyncSession, user: User, number: int) -> Page:
        return pages.mine(await holdings.of_person(session, user.id), number, open_=self._catalogue.open)

    async def _show(
        self, session: AsyncSession, user: User, name: SkillName, held: Holding | None, message_id: int
    ) -> Page | None:
        if held is not None:
            return await _held(session, held)

        async def look() -> Looked:
            found = await self._catalogue.look(name)

            async def page(_session: AsyncSession, _user: User) -> Page:
                return pages.offered(found)

            return page

        return await self._look_up(session, user, name.slug, message_id, look)

    async def _hints(self, session: AsyncSession, user: User) -> Page:
        sets = self._sets.now()
        found = await recommend(session, user.telegram_id, await holdings.of_person(session, user.id), sets)
        if not found and sets.needs:
            return pages.by_need(sets.needs)
        return pages.recommended(found, needs=bool(sets.needs))

    async def _options(self, session: AsyncSession, user: User, words: Sequence[str]) -> Page:
        person = await people.chosen(session, user.telegram_id)
        if words:
            await people.look_at_messages(session, user.telegram_id, words[0] == "on")
            event.listen(session.sync_session, "after_commit", lambda _: self._interests.ask_again(), once=True)
        return pages.options(from_messages=person.from_messages)

    async def _policy(self, session: AsyncSession, user: User, held: Holding, words: Sequence[str]) -> Page:
        if words:
            chosen = SkillPolicy(words[0])
            await wishes.want(session, user.id, held.name, SkillSource.PERSON, policy=chosen, version=held.version)
            return pages.policy((await _having(session, user))[held.name])
        return pages.policy(held)

    async def _decide(
        self, session: AsyncSession, user: User, held: Holding, verb: Verb, key: str, message_id: int
    ) -> Page | str:
        """The answer to what a newer version newly asks for."""
        if held.offered is None or version_key(held.name, held.offered) != key:
            await self._talk.edit(session, user.telegram_id, message_id, *await _held(session, held))
            return _CHANGED
        if verb == Verb.UPDATE:
            await wishes.approve(session, user.id, held.name, held.offered)
            return await self._follow(session, user, [held.name], message_id)
        pin = SkillPolicy.PIN
        await wishes.want(session, user.id, held.name, SkillSource.PERSON, policy=pin, version=held.version)
        return pages.kept(held)

    async def _need(
        self, session: AsyncSession, user: User, need: SkillSet, message_id: int, *, first: bool
    ) -> Page | None:
        async def look() -> Looked:
            found = await self._catalogue.look_at([skill.name for skill in need.skills])

            async def page(session: AsyncSession, user: User) -> Page:
                return pages.need(need, found, await _having(session, user), first=first)

            return page

        return await self._look_up(session, user, need.title, message_id, look)

    async def _add_set(
        self, session: AsyncSession, user: User, need: SkillSet, words: Sequence[str], message_id: int, *, first: bool
    ) -> Page | None:
        having = await _having(session, user)
        source = SkillSource.ONBOARDING if first else SkillSource.PERSON
        never = await unwanted(session, [skill.name for skill in need.skills])
        new = [skill for skill in need.skills if skill.name not in having and skill.name not in never]
        found = [(skill, row.version) for skill in new if (row := await newest(session, skill.name)) is not None]
        if not found:
            return await self._mine(session, user, 0)
        if versions_key(Reference(skill.name, version) for skill, version in found) not in words:
            # What is there by now may ask for something else.
            return await self._need(session, user, need, message_id, first=first)
        for skill, version in found:
            await wishes.want(session, user.id, skill.name, source, policy=skill.policy, version=skill.version)
            if skill.version is None:
                await wishes.approve(session, user.id, skill.name, version)
        return await self._follow(session, user, [skill.name for skill, _ in found], message_id)

    async def _add(self, session: AsyncSession, user: User, name: SkillName, version: str, message_id: int) -> Page:
        await wishes.want(session, user.id, name, SkillSource.PERSON)
        await wishes.approve(session, user.id, name, version)
        return await self._follow(session, user, [name], message_id)

    async def _follow(self, session: AsyncSession, user: User, names: Sequence[SkillName], message_id: int) -> Page:
        """The message says how far these are from now on."""
        rows = [
            SkillProgress(
                telegram_id=user.telegram_id,
                owner=name.owner,
                slug=name.slug,
                message_id=message_id,
                shown="waiting",
                detail="",
                since=now(),
            )
            for name in names
        ]
        for row in rows:
            await session.merge(row)
        return pages.progress(rows, await holdings.titles_of(session, set(names)))

    async def _search(self, session: AsyncSession, user: User, text: str) -> None:
        words = " ".join(text.split())[:_LONGEST]
        if not self._catalogue.open:
            await self._talk.say(session, user.telegram_id, pages.OFF)
            return
        try:
            name, _ = parse(words)
        except BadName:
            look = self._looked_for(words)
        else:
            look = self._looked_at(name)
        if not self._may_ask(user.telegram_id):
            await self._talk.say(session, user.telegram_id, _TOO_MANY)
            return
        row = await self._talk.say(session, user.telegram_id, pages.searching(words))
        self._afterwards(session, user.telegram_id, {"outbox": row}, look)

    def _looked_for(self, words: str) -> Callable[[], Awaitable[Looked]]:
        async def look() -> Looked:
            found = await self._catalogue.search(words)

            async def page(session: AsyncSession, user: User) -> Page:
                return pages.results(words, found, await _having(session, user))

            return page

        return look

    def _looked_at(self, name: SkillName) -> Callable[[], Awaitable[Looked]]:
        async def look() -> Looked:
            found = await self._catalogue.look(name)

            async def page(session: AsyncSession, user: User) -> Page:
                held = (await _having(session, user)).get(name)
                return await _held(session, held) if held is not None else pages.offered(found)

            return page

        return look

    async def _look_up(
        self,
        session: AsyncSession,
        user: User,
        words: str,
        message_id: int,
        look: Callable[[], Awaitable[Looked]],
    ) -> Page | None:
        """Say that something is looked up, and do so once this transaction is committed."""
        if not self._catalogue.open:
            return pages.OFF, ()
        if not self._may_ask(user.telegram_id):
            return _TOO_MANY, ()
        await self._talk.edit(session, user.telegram_id, message_id, pages.searching(words))
        self._afterwards(session, user.telegram_id, message_id, look)
        return None

    def _may_ask(self, telegram_id: int) -> bool:
        at = time.monotonic()
        asked = self._asked.setdefault(telegram_id, deque(maxlen=_QUESTIONS))
        if len(asked) == _QUESTIONS and asked[0] > at - _PER:
            return False
        asked.append(at)
        return True

    def _afterwards(
        self, session: AsyncSession, telegram_id: int, message: MessageRef, look: Callable[[], Awaitable[Looked]]
    ) -> None:
        def begin(_session: object) -> None:
            # What somebody asks next is what they want to know.
            before = self._looking.get(telegram_id)
            if before is not None:
                before.cancel()
            task = asyncio.create_task(self._answer(telegram_id, message, look))
            self._looking[telegram_id] = task
            task.add_done_callback(lambda done: self._done(telegram_id, done))

        event.listen(session.sync_session, "after_commit", begin, once=True)

    def _done(self, telegram_id: int, task: asyncio.Task[None]) -> None:
        if self._looking.get(telegram_id) is task:
            del self._looking[telegram_id]

    async def _answer(self, telegram_id: int, message: MessageRef, look: Callable[[], Awaitable[Looked]]) -> None:
        page: Looked | None = None
        failure = pages.failed(_BROKEN)
        try:
            async with self._room:
                page = await look()
        except SkillError as error:
            failure = pages.failed(f"😕 {error.sentence}")
        except Exception:
            _log.exception("skills could not be looked up")
        async with self._database.write() as session:
            user = await users.find(session, telegram_id)
            if user is None or await _refusal(session, user) is not None:
                return
            shown = await page(session, user) if page is not None else failure
            await self._talk.edit(session, telegram_id, message, *shown)
        self._outbox.ring()


async def _refusal(session: AsyncSession, user: User | None) -> str | None:
    """Why this person can choose nothing now."""
    if user is None or user.status == UserStatus.REFUSED:
        return _NO_ASSISTANT
    if user.status == UserStatus.SUSPENDED:
        return _SUSPENDED
    wish = await session.get(Wish, user.id)
    if wish is None:
        return _NO_ASSISTANT
    return _LEAVING if wish.wanted == Wanted.ABSENT else None


async def _having(session: AsyncSession, user: User) -> dict[SkillName, Holding]:
    return {one.name: one for one in await holdings.of_person(session, user.id)}


async def _held(session: AsyncSession, held: Holding) -> Page:
    skill = await session.get(Skill, (held.name.owner, held.name.slug))
    key = (held.name.owner, held.name.slug, held.version)
    row = await session.get(SkillVersion, key) if held.version is not None else None
    return pages.held(held, row.needs if row is not None else {}, skill.summary if skill is not None else "")
