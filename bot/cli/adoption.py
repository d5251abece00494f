"""Gives an instance that the database does not know back to its person, as after a database was restored."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bot.cli.output import CliError, ExitCode
from bot.hostfacts import host_file
from bot.provisioner import addresses
from bot.provisioner.containers import Observed
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.openclaw import CONFIG_FILE
from bot.store import now
from bot.store.tables import AuditEntry, ContainerState, Instance, User, UserStatus, Wanted, Wish
from bot.users import people, places
from bot.users.plans import PLANS
from infra.spec import PLAN_LABEL, is_digest, is_instance_id


@dataclass(frozen=True)
class Foundling:
    """What there is of an instance that the database does not know."""

    id: str
    #: None: it has no container.
    observed: Observed | None
    #: The newest snapshot of its archive, where its files are not in a volume; None: they are.
    archive: str | None
    #: Telegram ids that its configuration names; None: it cannot be read from here.
    owners: frozenset[str] | None


async def find(context: ProvisionerContext, instance_id: str) -> Foundling:
    """Look at the instance; raises :class:`CliError` where it is known, or is not here."""
    if not is_instance_id(instance_id):
        raise CliError(f"{instance_id} is no instance's id; `zaki doctor` names them.", ExitCode.USAGE)
    async with context.database.read() as session:
        row = await session.get(Instance, instance_id)
    if row is not None:
        raise CliError(f"{instance_id} is known already; `zaki instance show {instance_id}` says whose it is.")
    world = await context.containers.belongings(context.host.network, str(host_file(context.settings)))
    observed = await context.containers.observe(instance_id)
    if observed is not None and instance_id not in world.containers:
        raise CliError(f"{instance_id} is on another network than {context.host.network}; it is another host's.")
    if instance_id in world.volumes:
        return Foundling(instance_id, observed, None, await _owners(context, instance_id) if observed else None)
    saved = await context.archive.latest(instance_id)
    if saved is None:
        raise CliError(f"There are no files of {instance_id} on this host; `zaki doctor` names what there is.")
    return Foundling(instance_id, observed, saved.snapshot, None)


async def adopt(context: ProvisionerContext, found: Foundling, telegram_id: int) -> None:
    """Make it this person's, and have it brought up; raises :class:`CliError` where it is not, or cannot be."""
    if found.owners is not None and str(telegram_id) not in found.owners:
        raise CliError(
            f"{found.id} is not {telegram_id}'s: its configuration names "
            f"{' and '.join(sorted(found.owners)) or 'nobody'}.",
            ExitCode.REFUSED,
        )
    try:
        async with context.database.write() as session:
            user = await _person(session, context, telegram_id)
            address = await _address(session, context, found)
            session.add(_row(context, found, user, address))
            session.add(
                AuditEntry(
                    at=now(), instance_id=found.id, action="adopt", detail="The operator gave it back to its person."
                )
            )
    except IntegrityError:
        raise CliError(f"Somebody was faster: {found.id} or {telegram_id} has an owner now; look again.") from None


async def _person(session: AsyncSession, context: ProvisionerContext, telegram_id: int) -> User:
    """Who gets it, with a place and a wish for it."""
    user = await people.find(session, telegram_id) or await people.remember(session, telegram_id)
    other = await session.scalar(select(Instance.id).where(Instance.user_id == user.id))
    if other is not None:
        raise CliError(
            f"{telegram_id} has the instance {other}, and nobody has two; `zaki instance rm {other}` deletes that one.",
            ExitCode.REFUSED,
        )
    wish = await session.get(Wish, user.id)
    if wish is not None and wish.wanted == Wanted.ABSENT:
        raise CliError(f"The data of {telegram_id} is being deleted; try again when that is done.")
    if wish is not None:
        await people.renew(session, user)
        return user
    if not await places.take(session, context.settings.max_instances):
        raise CliError("All places are taken; raise ZAKI_MAX_INSTANCES.", ExitCode.REFUSED)
    if user.status == UserStatus.REFUSED:
        user.status, user.refusal_told_at = UserStatus.ACTIVE, None
    await people.wish(session, user, Wanted.AWAKE if user.status == UserStatus.ACTIVE else Wanted.STOPPED)
    return user


async def _address(session: AsyncSession, context: ProvisionerContext, found: Foundling) -> str | None:
    """The address that its container has; None where that cannot be kept, and it is given another."""
    held = found.observed.address if found.observed is not None else None
    if held is None or not await addresses.take(session, context.host, found.id, held):
        return None
    return held


def _row(context: ProvisionerContext, found: Foundling, user: User, address: str | None) -> Instance:
    observed, shape = found.observed, found.observed.shape if found.observed is not None else None
    plan = shape.labels.get(PLAN_LABEL, "") if shape is not None else ""
    image = context.settings.image or context.host.image
    if shape is not None:
        image = shape.image_name if is_digest(shape.image_name) else shape.image
    asleep = observed is not None and observed.state is ContainerState.PAUSED
    return Instance(
        id=found.id,
        user_id=user.id,
        plan=plan if plan in PLANS else user.plan,
        address=address,
        image=image,
        container=observed.state if observed is not None else ContainerState.NONE,
        archive=found.archive,
        # Its gateway may have been told to keep still, and is told to go on before anything is delivered.
        fenced_at=now() if asleep else None,
        resting_since=now() if asleep else None,
        created_at=now(),
    )


async def _owners(context: ProvisionerContext, instance_id: str) -> frozenset[str] | None:
    """Who its own configuration says that it obeys: no proof, the instance may write it, but it shows a mistake."""
    content = await context.containers.read_file(instance_id, CONFIG_FILE)
    try:
        allowed = json.loads(content or b"")["channels"]["telegram"]["allowFrom"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return frozenset(str(one) for one in allowed) if isinstance(allowed, list) else None
