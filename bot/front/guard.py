"""Which instance calls: the virtual credential and the source address must agree."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from sqlalchemy import select

from bot.credentials import same
from bot.front.context import FrontContext
from bot.nobody import NOBODY
from bot.store.tables import Instance, User

#: Derived and compared where no instance fits, so that the time to answer does not tell whether one exists.
_NOBODY = "u-0000000000"


@dataclass(frozen=True)
class CallingInstance:
    """An instance that proved who it is."""

    id: str
    #: None: a member of the warm pool, which nobody has claimed.
    user_id: int | None
    #: Its owner on Telegram, which is also the owner's private chat.
    telegram_id: int
    plan: str

    @property
    def rehearses(self) -> bool:
        """Whether nobody is there to hear it: nothing of it may reach Telegram, or cost anything."""
        return self.user_id is None


async def identify(
    context: FrontContext,
    request_ip: str,
    instance_id: str | None,
    credential: str,
    kind: Literal["bot_token", "model_key"],
) -> CallingInstance | None:
    """The claimed instance, or None where the credential or the address is not its own.

    `request_ip` is the peer of the connection, `instance_id` the claim that the credential makes (None where it has
    not the form of one). Credentials are compared in constant time.
    """
    found = await _look_up(context, instance_id) if instance_id is not None else None
    epoch = found[0].credentials_epoch if found else 1
    derived = context.key.derive(found[0].id if found else _NOBODY, epoch)
    fits = same(derived.bot_token if kind == "bot_token" else derived.model_key, credential)
    if found is None or not fits:
        return None
    instance, telegram_id = found
    if instance.address is None or not _same_address(instance.address, request_ip):
        return None
    return CallingInstance(
        id=instance.id,
        user_id=instance.user_id,
        telegram_id=NOBODY if telegram_id is None else telegram_id,
        plan=instance.plan,
    )


async def _look_up(context: FrontContext, instance_id: str) -> tuple[Instance, int | None] | None:
    query = (
        select(Instance, User.telegram_id)
        .outerjoin(User, User.id == Instance.user_id)
        .where(Instance.id == instance_id)
    )
    async with context.database.read() as session:
        row = (await session.execute(query)).one_or_none()
    return (row[0], row[1]) if row else None


def _same_address(left: str, right: str) -> bool:
    try:
        return ip_address(left) == _unmapped(right)
    except ValueError:
        return False


def _unmapped(address: str) -> object:
    """A v4 peer as itself where a dual-stack socket wrote it as v6."""
    parsed = ip_address(address)
    return getattr(parsed, "ipv4_mapped", None) or parsed
