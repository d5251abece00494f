"""How long a gateway that ended by itself is left alone: not at all where somebody waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bot.hostfacts import HostFacts
from bot.nudge import Nudge
from bot.provisioner.app import Provisioner
from bot.provisioner.context import ProvisionerContext
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import ContainerState, InboxUpdate, Instance, Recipient, User
from bot.toolchain import Toolchain

ID = "u-aaaaaaaaaa"
PERSON = 7


async def pause_after_an_end(
    database: Database, settings: Settings, host_facts: HostFacts, rows: list[Any], **user: Any
) -> float:
    """Seconds until the instance is looked at, whose gateway ends a moment after it was ready."""
    async with database.write() as session:
        person = User(telegram_id=PERSON, created_at=now(), **user)
        session.add_all([person, *rows])
        await session.flush()
        session.add(
            Instance(
                id=ID,
                user_id=person.id,
                plan="standard",
                image="x",
                container=ContainerState.RUNNING,
                ready_at=now(),
                created_at=now(),
            )
        )

    async def deaths() -> AsyncIterator[str]:
        yield ID

    provisioner = Provisioner(settings, database, Nudge(), host_facts, Toolchain.from_pins())
    provisioner.context = cast(ProvisionerContext, SimpleNamespace(containers=SimpleNamespace(deaths=deaths)))
    at = now()
    await provisioner._watch_deaths()
    async with database.read() as session:
        instance = await session.get_one(Instance, ID)
    assert (instance.container, instance.repairs) == (ContainerState.EXITED, 1)
    assert instance.next_look_at is not None
    return instance.next_look_at - at


def update() -> InboxUpdate:
    return InboxUpdate(
        update_id=1,
        telegram_id=PERSON,
        kind="message",
        recipient=Recipient.INSTANCE,
        body=b"{}",
        received_at=now(),
        expires_at=now() + 3600,
    )


@pytest.mark.parametrize("last", [None, 3600.0])
async def test_one_whose_persons_message_waits_starts_at_once(
    database: Database, settings: Settings, host_facts: HostFacts, last: float | None
) -> None:
    spoke = None if last is None else now() - last
    assert await pause_after_an_end(database, settings, host_facts, [update()], last_message_at=spoke) < 60


async def test_one_in_a_conversation_starts_at_once(
    database: Database, settings: Settings, host_facts: HostFacts
) -> None:
    assert await pause_after_an_end(database, settings, host_facts, [], last_message_at=now()) < 60


async def test_one_that_nobody_waits_for_gets_a_pause(
    database: Database, settings: Settings, host_facts: HostFacts
) -> None:
    assert await pause_after_an_end(database, settings, host_facts, [], last_message_at=now() - 3600) >= 300
