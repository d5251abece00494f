"""A member of the warm pool thinks for nobody: it gets an answer, which costs nothing and is in no account."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select, update

from bot.store import Database
from bot.store.tables import Instance, Usage, UsageDay
from tests.integration.front.models.conftest import INSTANCE, Bridge, Provider

ASKED: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
async def nobodys(bridge: Bridge, database: Database) -> int:
    """The bridge's instance belongs to nobody; the row of the person who may claim it."""
    async with database.write() as session:
        owner = await session.scalar(select(Instance.user_id).where(Instance.id == INSTANCE))
        await session.execute(update(Instance).where(Instance.id == INSTANCE).values(user_id=None))
    assert owner is not None
    return owner


async def accounted(database: Database) -> int:
    async with database.read() as session:
        counts = [await session.scalar(select(func.count()).select_from(table)) for table in (Usage, UsageDay)]
    return sum(count or 0 for count in counts)


@pytest.mark.usefixtures("nobodys")
@pytest.mark.parametrize("stream", [True, False])
async def test_it_is_answered_without_the_provider(
    bridge: Bridge, provider: Provider, database: Database, stream: bool
) -> None:
    options: dict[str, Any] = {"stream": True} if stream else {}
    async with bridge.openai() as client:
        answer = await client.chat.completions.create(**ASKED, **options)
        if stream:
            chunks = [chunk async for chunk in answer]
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            # Also where it was not asked for: the provisioner looks for it.
            usage = chunks[-1].usage
        else:
            text, usage = answer.choices[0].message.content, answer.usage
    assert "hello" in text
    assert usage.completion_tokens > 0
    assert provider.bodies == []
    await bridge.state.close()
    assert await accounted(database) == 0


@pytest.mark.usefixtures("nobodys")
async def test_its_key_is_good_from_its_own_address_alone(bridge: Bridge) -> None:
    async with bridge.http(address="127.0.0.2") as client:
        assert (await client.post("/chat/completions", json=ASKED)).status_code == 401


async def test_once_it_is_claimed_the_provider_answers_and_it_counts(
    bridge: Bridge, provider: Provider, database: Database, nobodys: int
) -> None:
    provider.completes("from the provider")
    async with database.write() as session:
        await session.execute(update(Instance).where(Instance.id == INSTANCE).values(user_id=nobodys))
    async with bridge.openai() as client:
        answer = await client.chat.completions.create(**ASKED)
    assert answer.choices[0].message.content == "from the provider"
    assert len(provider.bodies) == 1
    await bridge.state.close()
    assert await accounted(database) == 2
