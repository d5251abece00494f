"""Nudges reach who waits, in this process and in the peer; a missing peer does not matter."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bot.nudge import Nudge, Topic

LONG = 30.0


async def test_a_ring_wakes_every_waiter_of_its_topic() -> None:
    nudge = Nudge()
    waiters = [asyncio.create_task(nudge.wait(Topic.INBOX, nudge.seen(Topic.INBOX), LONG)) for _ in range(3)]
    other = asyncio.create_task(nudge.wait(Topic.OUTBOX, nudge.seen(Topic.OUTBOX), LONG))
    await asyncio.sleep(0)
    nudge.ring(Topic.INBOX)
    await asyncio.wait_for(asyncio.gather(*waiters), 5)
    assert not other.done()
    other.cancel()


async def test_a_ring_between_the_look_and_the_wait_is_not_lost() -> None:
    nudge = Nudge()
    seen = nudge.seen(Topic.WISHES)
    nudge.ring(Topic.WISHES)
    await asyncio.wait_for(nudge.wait(Topic.WISHES, seen, LONG), 5)


async def test_a_ring_reaches_the_peer(tmp_path: Path) -> None:
    front = Nudge(tmp_path / "front.sock", tmp_path / "provisioner.sock")
    provisioner = Nudge(tmp_path / "provisioner.sock", tmp_path / "front.sock")
    front.open()
    front.ring(Topic.WISHES)  # nobody listens yet
    provisioner.open()
    try:
        seen = provisioner.seen(Topic.WISHES)
        front.ring(Topic.WISHES)
        await asyncio.wait_for(provisioner.wait(Topic.WISHES, seen, LONG), 5)
    finally:
        front.close()
        provisioner.close()
    assert not list(tmp_path.iterdir())


async def test_without_a_ring_one_looks_again_by_oneself() -> None:
    nudge = Nudge()
    await asyncio.wait_for(nudge.wait(Topic.INBOX, nudge.seen(Topic.INBOX), 0.01), 5)
