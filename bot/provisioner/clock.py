"""Sets right what was written down before the clock was put back, so that nothing waits for the size of the step."""

from __future__ import annotations

from sqlalchemy import or_, select, update

from bot.provisioner.decision import LOOK_ANYWAY
from bot.provisioner.lease import LEASE
from bot.store import Database, now
from bot.store.tables import Instance


async def set_right(database: Database) -> None:
    """Bring times that lie further ahead than they can to what they may be at most."""
    at = now()
    furthest = {
        Instance.next_look_at: at + LOOK_ANYWAY,
        Instance.lease_until: at + LEASE,
        Instance.ready_at: at,
        Instance.resting_since: at,
        Instance.rest_told_at: at,
    }
    async with database.read() as session:
        ahead = or_(*(column > most + 1.0 for column, most in furthest.items()))
        if await session.scalar(select(Instance.id).where(ahead).limit(1)) is None:
            return
    async with database.write() as session:
        for column, most in furthest.items():
            value = at if column is Instance.next_look_at else most
            await session.execute(update(Instance).where(column > most + 1.0).values({column: value}))
