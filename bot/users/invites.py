"""Invitations: codes that admit a number of people."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sqlalchemy import delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bot.store import now
from bot.store.tables import Invite

#: Without those that are taken for each other; 12 of them cannot be guessed (59 bits).
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_LENGTH = 12


async def create(session: AsyncSession, count: int = 1, uses: int = 1, expires_in: float | None = None) -> list[str]:
    """Make `count` codes for `uses` people each, which end after `expires_in` seconds (None: never)."""
    at = now()
    codes = ["".join(secrets.choice(_LETTERS) for _ in range(_LENGTH)) for _ in range(count)]
    expires_at = None if expires_in is None else at + expires_in
    session.add_all(Invite(code=code, uses_left=uses, created_at=at, expires_at=expires_at) for code in codes)
    await session.flush()
    return codes


async def ls(session: AsyncSession) -> Sequence[Invite]:
    """All codes, the newest first."""
    return (await session.scalars(select(Invite).order_by(Invite.created_at.desc(), Invite.code))).all()


async def rm(session: AsyncSession, code: str) -> bool:
    """Take a code back; False where there is none. Who was admitted by it stays."""
    removed = await session.scalars(delete(Invite).where(Invite.code == code).returning(Invite.code))
    return removed.one_or_none() is not None


async def redeem(session: AsyncSession, code: str) -> bool:
    """Use a code once; False where it does not exist, is used up or has ended. One conditional UPDATE."""
    used = await session.scalars(
        update(Invite)
        .where(
            Invite.code == code,
            Invite.uses_left > 0,
            or_(Invite.expires_at.is_(None), Invite.expires_at > now()),
        )
        .values(uses_left=Invite.uses_left - 1)
        .returning(Invite.code)
        .execution_options(synchronize_session=False)
    )
    return used.one_or_none() is not None
