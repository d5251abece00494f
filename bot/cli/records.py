"""What the database holds, in the words that commands print."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, func, or_, select

from bot.cli.output import CliError, Row, moment
from bot.settings import Settings, default_state, load_settings
from bot.store import Database, now
from bot.store.states import derive_state
from bot.store.tables import Decision, Instance, Invite, Operation, TimelineEntry, User, Wish

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

#: In the place of a name: nobody's yet.
POOLED = "(warm pool)"
#: How many of the latest operations and timeline entries a detailed view shows.
_LATEST = 20


@asynccontextmanager
async def existing_database(settings: Settings | None = None) -> AsyncIterator[Database]:
    """The database of a service that was started before; raises :class:`CliError` where there is none."""
    settings = settings or load_settings()
    database = _file(settings)
    if database is not None and not database.exists():
        demo = default_state() / "demo"
        hint = f"; the demo's is below ZAKI_STATE={demo}" if (demo / "db").exists() else ""
        raise CliError(f"There is no database at {database}: start Zaki once, or set ZAKI_STATE{hint}.")
    async with open_database(settings) as opened:
        yield opened


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """The database as the settings name it, closed after the block."""
    database = Database(settings.effective_database_url)
    try:
        yield database
    finally:
        await database.close()


async def instance_rows(session: AsyncSession, where: ColumnElement[bool] | None = None) -> list[Row]:
    """Instances, the oldest first, with the person whom each belongs to."""
    under_way = and_(Operation.instance_id == Instance.id, Operation.finished_at.is_(None))
    query = (
        select(Instance, User, Operation)
        .outerjoin(User, User.id == Instance.user_id)
        .outerjoin(Operation, under_way)
        .order_by(Instance.created_at)
    )
    if where is not None:
        query = query.where(where)
    return [_instance(*row) for row in await session.execute(query)]


async def instance_details(session: AsyncSession, instance_id: str) -> Row:
    """One instance with its wish and latest operations; raises :class:`CliError` where there is none."""
    rows = await instance_rows(session, Instance.id == instance_id)
    if not rows:
        raise CliError(f"There is no instance {instance_id}; `zaki instance ls` lists them.")
    instance = await session.get_one(Instance, instance_id)
    wish = await session.get(Wish, instance.user_id) if instance.user_id is not None else None
    latest = select(Operation).where(Operation.instance_id == instance_id).order_by(Operation.id.desc()).limit(_LATEST)
    operations = list(await session.scalars(latest))
    why = select(Decision).where(Decision.instance_id == instance_id).order_by(Decision.id.desc()).limit(_LATEST)
    decisions = list(await session.scalars(why))
    return {
        **rows[0],
        "wanted": wish.wanted if wish else None,
        "awake_until": moment(wish.awake_until) if wish else None,
        "resting_since": moment(instance.resting_since),
        "next_job_at": moment(instance.next_job_at),
        "next_look_at": moment(instance.next_look_at),
        "archive": instance.archive,
        "repairs": instance.repairs,
        "operations": [_operation(operation) for operation in reversed(operations)],
        "decisions": [_decision(decision) for decision in reversed(decisions)],
    }


async def user_rows(session: AsyncSession, where: ColumnElement[bool] | None = None) -> list[Row]:
    """People who have written to the bot, the oldest first."""
    under_way = and_(Operation.instance_id == Instance.id, Operation.finished_at.is_(None))
    query = (
        select(User, Instance, Operation)
        .outerjoin(Instance, Instance.user_id == User.id)
        .outerjoin(Operation, under_way)
        .order_by(User.created_at)
    )
    if where is not None:
        query = query.where(where)
    return [_user(*row) for row in await session.execute(query)]


async def user_details(session: AsyncSession, who: str) -> Row:
    """One person by Telegram id, @username or instance; raises :class:`CliError` where there is none."""
    if who.isascii() and who.isdigit() and len(who) < 19:
        where: ColumnElement[bool] = User.telegram_id == int(who)
    elif who.startswith("u-"):
        where = Instance.id == who
    else:
        where = User.username == who.removeprefix("@")
    rows = await user_rows(session, where)
    if not rows:
        raise CliError(f"Nobody is known as {who}; `zaki user ls` lists everybody.")
    telegram_id = rows[0]["telegram_id"]
    latest = (
        select(TimelineEntry)
        .where(TimelineEntry.telegram_id == telegram_id)
        .order_by(TimelineEntry.id.desc())
        .limit(_LATEST)
    )
    entries = list(await session.scalars(latest))
    timeline = [{"at": moment(e.at), "stage": e.stage, "detail": e.detail} for e in reversed(entries)]
    return {**rows[0], "timeline": timeline}


async def count_instances(settings: Settings) -> int:
    """How many instances there are; none where no service was ever started."""
    database = _file(settings)
    if database is not None and not database.exists():
        return 0
    async with open_database(settings) as opened, opened.read() as session:
        return await session.scalar(select(func.count()).select_from(Instance)) or 0


async def invite_rows(session: AsyncSession, codes: Sequence[str] | None = None) -> list[Row]:
    """These codes, by default all that still admit somebody, the oldest first."""
    query = select(Invite).order_by(Invite.created_at, Invite.code)
    if codes is None:
        query = query.where(Invite.uses_left > 0, or_(Invite.expires_at.is_(None), Invite.expires_at > now()))
    else:
        query = query.where(Invite.code.in_(codes))
    return [
        {
            "code": found.code,
            "uses_left": found.uses_left,
            "expires_at": moment(found.expires_at),
            "created_at": moment(found.created_at),
        }
        for found in await session.scalars(query)
    ]


def _file(settings: Settings) -> Path | None:
    """The file of a SQLite database."""
    from sqlalchemy.engine import make_url

    url = make_url(settings.effective_database_url)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _instance(instance: Instance, user: User | None, operation: Operation | None) -> Row:
    return {
        "id": instance.id,
        "state": derive_state(instance, operation.kind if operation else None).value,
        "telegram_id": user.telegram_id if user else None,
        "name": user.first_name if user else POOLED,
        "plan": instance.plan,
        "address": instance.address,
        "image": instance.image,
        "container": str(instance.container),
        "ready_at": moment(instance.ready_at),
        "warmed_at": moment(instance.warmed_at),
        "failure": instance.failure,
        "created_at": moment(instance.created_at),
    }


def _operation(operation: Operation) -> Row:
    return {
        "started_at": moment(operation.started_at),
        "finished_at": moment(operation.finished_at),
        "kind": str(operation.kind),
        "stage": operation.stage,
        "error": operation.error,
    }


def _decision(decision: Decision) -> Row:
    return {
        "first_at": moment(decision.first_at),
        "at": moment(decision.at),
        "times": decision.times,
        "action": decision.action,
        "reason": decision.reason,
    }


def _user(user: User, instance: Instance | None, operation: Operation | None) -> Row:
    return {
        "telegram_id": user.telegram_id,
        "name": user.first_name,
        "username": user.username,
        "status": str(user.status),
        "plan": user.plan,
        "instance": instance.id if instance else None,
        "state": derive_state(instance, operation.kind if operation else None).value,
        "call_name": user.call_name,
        "timezone": user.timezone,
        "created_at": moment(user.created_at),
        "last_message_at": moment(user.last_message_at),
    }
