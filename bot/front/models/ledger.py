"""The account of tokens: entered before a call, so that no crash loses it, and brought up to date after."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from bot.front.context import FrontContext
from bot.front.guard import CallingInstance
from bot.front.models.errors import ModelError, tokens_spent
from bot.front.models.meter import Tokens
from bot.front.outbox import BotCall, Outbox
from bot.store import now
from bot.store.tables import AuditEntry, Usage, UsageDay

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Entry:
    """A call that has been entered with an estimate."""

    usage_id: int
    instance_id: str
    day: str
    estimate: int


class Ledger:
    """Enters and settles calls; the day's cap is one conditional statement on the day's row."""

    def __init__(self, context: FrontContext, outbox: Outbox) -> None:
        self._database = context.database
        self._cap = context.settings.daily_tokens
        self._outbox = outbox

    async def check(self, caller: CallingInstance) -> None:
        """Raise the provider's 429 where the day is spent, before anything is read; :meth:`enter` decides."""
        day = _today()
        async with self._database.read() as session:
            tokens = await session.scalar(
                select(UsageDay.tokens).where(UsageDay.instance_id == caller.id, UsageDay.day == day)
            )
        if tokens is not None and tokens >= self._cap:
            raise await self._spent(caller, day)

    async def enter(self, caller: CallingInstance, model: str, estimate: int) -> Entry:
        """Enter a call with the estimated tokens of its prompt; raises the provider's 429 where the day is spent."""
        day = _today()
        async with self._database.write() as session:
            if await self._admit(session, caller.id, day, estimate):
                usage = Usage(
                    instance_id=caller.id,
                    at=now(),
                    model=model,
                    prompt_tokens=estimate,
                    completion_tokens=0,
                    duration=0.0,
                    estimated=True,
                )
                session.add(usage)
                await session.flush()
                return Entry(usage.id, caller.id, day, estimate)
        raise await self._spent(caller, day)

    async def settle(
        self, entry: Entry, tokens: Tokens, *, first_byte: float | None, duration: float, status: int
    ) -> None:
        """Write what the call really took, and the status that the instance got; times are seconds."""
        async with self._database.write() as session:
            await session.execute(
                update(Usage)
                .where(Usage.id == entry.usage_id)
                .values(
                    prompt_tokens=tokens.prompt,
                    completion_tokens=tokens.completion,
                    estimated=tokens.estimated,
                    first_byte=first_byte,
                    duration=duration,
                    http_status=status,
                )
            )
            await session.execute(
                update(UsageDay)
                .where(UsageDay.instance_id == entry.instance_id, UsageDay.day == entry.day)
                .values(tokens=UsageDay.tokens + tokens.prompt + tokens.completion - entry.estimate)
            )

    async def _spent(self, caller: CallingInstance, day: str) -> ModelError:
        async with self._database.write() as session:
            told = await self._tell(session, caller, day)
        if told:
            _log.warning("daily tokens spent", instance=caller.id, cap=self._cap)
            self._outbox.ring()
        return tokens_spent(self._cap)

    async def _admit(self, session: AsyncSession, instance_id: str, day: str, estimate: int) -> bool:
        insert = sqlite.insert if self._database.sqlite else postgresql.insert
        statement = (
            insert(UsageDay)
            .values(instance_id=instance_id, day=day, tokens=estimate, requests=1)
            .on_conflict_do_update(
                index_elements=[UsageDay.instance_id, UsageDay.day],
                set_={"tokens": UsageDay.tokens + estimate, "requests": UsageDay.requests + 1},
                where=UsageDay.tokens < self._cap,
            )
            .returning(UsageDay.day)
        )
        return (await session.execute(statement)).one_or_none() is not None

    async def _tell(self, session: AsyncSession, caller: CallingInstance, day: str) -> bool:
        """Tell the person and the operator, once a day."""
        first = await session.execute(
            update(UsageDay)
            .where(UsageDay.instance_id == caller.id, UsageDay.day == day, UsageDay.spent_told_at.is_(None))
            .values(spent_told_at=now())
            .returning(UsageDay.day)
        )
        if first.one_or_none() is None:
            return False
        session.add(
            AuditEntry(at=now(), instance_id=caller.id, action="tokens_spent", detail=f"{self._cap} tokens on {day}")
        )
        text = "Your assistant has used all of today's tokens. It can think again after midnight (UTC)."
        params = {"chat_id": caller.telegram_id, "text": text}
        await self._outbox.enqueue(session, BotCall("sendMessage", params, caller.telegram_id))
        return True


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
