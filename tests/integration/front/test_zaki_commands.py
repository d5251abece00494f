"""Zaki's own commands and buttons, as a person meets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select

from bot.front import callbacks
from bot.front.callbacks import Press
from bot.front.context import FrontContext
from bot.front.menu import NAME_QUESTION, ZONE_QUESTION
from bot.settings import Settings
from bot.store import now
from bot.store.tables import ContainerState, User, UserStatus, Wanted
from bot.users import invites, people
from tests.integration.front.conftest import Gateways, Side, eventually, running_side
from tests.updates import membership, press, text_message

ADA, BEN = 4711, 4712
COMMANDS = ("/start", "/help", "/status", "/privacy", "/delete")


async def test_zakis_commands_never_reach_the_instance(side: Side, gateways: Gateways) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    await side.bring_up(ADA)
    await side.handle(*(text_message(10 + number, ADA, command) for number, command in enumerate(COMMANDS)))
    await side.handle(text_message(20, ADA, "/HELP@zaki_bot please"), text_message(21, ADA, " /model x"))
    await side.send(text_message(22, ADA, "/new"))
    await side.until(22, "delivered")
    assert gateways.update_ids("127.0.0.1") == [21, 22]


async def test_start_begins_the_instance_before_any_answer(side: Side) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    wish = await side.wish(ADA)
    assert wish is not None
    assert wish.wanted == Wanted.AWAKE
    welcome, notice, question = await side.said(ADA)
    assert "Ada" in welcome
    assert "Setting up" in notice
    assert "call you" in question
    await side.bring_up(ADA)

    async def ready() -> bool:
        return any("ready" in text for text in await side.said(ADA))

    await eventually(ready)


async def test_name_and_time_zone_by_buttons(side: Side) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    before = await side.wish(ADA)
    await side.press(2, "Ada", ADA)
    user = await side.user(ADA)
    assert user is not None
    assert (user.call_name, user.timezone) == ("Ada", None)
    berlin = next(label for label in await side.buttons(ADA) if label.startswith("Berlin · "))
    await side.press(3, berlin, ADA)
    user, wish = await side.user(ADA), await side.wish(ADA)
    assert user is not None
    assert (user.call_name, user.timezone, user.onboarding) == ("Ada", "Europe/Berlin", "done")
    # Each answer is a reason for the provisioner to render anew.
    assert wish is not None
    assert before is not None
    assert wish.generation == before.generation + 2
    assert "Berlin" in (await side.said(ADA))[-1]


async def test_name_and_time_zone_typed(side: Side, gateways: Gateways) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    await side.press(2, "Another name…", ADA)
    assert (await side.said(ADA))[-1] == NAME_QUESTION
    await side.handle(text_message(3, ADA, "  Countess <b>\n of Lovelace ", reply_to=NAME_QUESTION))
    await side.press(4, "Type it…", ADA)
    await side.handle(text_message(5, ADA, "sidney, i think", reply_to=ZONE_QUESTION))
    assert "do not know that place" in (await side.said(ADA))[-1]
    await side.handle(text_message(6, ADA, "sydney", reply_to=ZONE_QUESTION))
    user = await side.user(ADA)
    assert user is not None
    assert (user.call_name, user.timezone) == ("Countess <b> of Lovelace", "Australia/Sydney")
    assert "Countess &lt;b&gt; of Lovelace" in (await side.said(ADA))[-1]
    await side.bring_up(ADA)
    await side.send(text_message(7, ADA, "hello"))
    await side.until(7, "delivered")
    assert gateways.update_ids("127.0.0.1") == [7]


async def test_both_questions_can_be_skipped(side: Side) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    await side.press(2, "Skip", ADA)
    await side.press(3, "Asia", ADA)
    assert any(label.startswith("Tokyo · ") for label in await side.buttons(ADA))
    await side.press(4, "Skip", ADA)
    user = await side.user(ADA)
    assert user is not None
    assert (user.call_name, user.timezone, user.onboarding) == (None, None, "done")


async def test_a_message_instead_of_an_answer_goes_to_the_instance(side: Side, gateways: Gateways) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    await side.bring_up(ADA)
    await side.send(text_message(2, ADA, "What is a monad?"))
    await side.until(2, "delivered")
    await side.press(3, "Ada", ADA)
    user = await side.user(ADA)
    assert user is not None
    assert user.call_name == "Ada"


async def test_forged_and_borrowed_buttons_change_nothing(
    side: Side, gateways: Gateways, monkeypatch: pytest.MonkeyPatch
) -> None:
    toasts: list[dict[str, object]] = []

    async def ask(call: object, wait: float = 10.0) -> None:
        toasts.append(dict(call.params))  # type: ignore[attr-defined]

    monkeypatch.setattr(side.router._outbox, "ask", ask)
    await side.handle(text_message(1, ADA, "/start"), text_message(2, BEN, "/start"))
    bens = callbacks.sign(side.context.key, BEN, Press("del", f"yes.{int(now())}"))
    await side.handle(press(3, ADA, bens), press(4, ADA, "zk:del:yes.1:" + "A" * 16), press(5, ADA, "zk:"))
    wish = await side.wish(ADA)
    assert wish is not None
    assert wish.wanted == Wanted.AWAKE

    async def answered() -> bool:
        return len(toasts) == 3

    await eventually(answered)
    assert [toast["show_alert"] for toast in toasts] == [True, True, True]
    await side.bring_up(ADA)
    await side.send(press(6, ADA, "agent:approve"))
    await side.until(6, "delivered")
    assert gateways.update_ids("127.0.0.1") == [6]


@pytest.mark.parametrize("asked", [-3600, 3600])
async def test_a_confirmation_of_another_time_deletes_nothing(side: Side, asked: int) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    # One from the future was asked before the clock was put back.
    stale = callbacks.sign(side.context.key, ADA, Press("del", f"yes.{int(now()) + asked}"))
    await side.handle(press(2, ADA, stale))
    wish = await side.wish(ADA)
    assert wish is not None
    assert wish.wanted == Wanted.AWAKE
    assert "too old" in (await side.said(ADA))[-1]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({}, "is awake"),
        ({"ready_at": None}, "is waking up"),
        ({"ready_at": None, "met_generation": 0}, "is being set up"),
        ({"container": ContainerState.PAUSED}, "is asleep"),
        ({"container": ContainerState.EXITED, "ready_at": None}, "is stopped"),
        ({"container": ContainerState.NONE, "ready_at": None, "archive": "ab12"}, "is packed away"),
        ({"failure": "Exit code 78.", "ready_at": None}, "cannot run right now"),
    ],
)
async def test_status_says_how_the_instance_is(side: Side, columns: dict[str, Any], words: str) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    await side.handle(text_message(2, ADA, "/status"))
    assert "is being set up" in (await side.said(ADA))[-1]
    await side.bring_up(ADA, **columns)
    await side.handle(text_message(3, ADA, "/status"))
    assert words in (await side.said(ADA))[-1]
    assert "78" not in (await side.said(ADA))[-1]


async def test_status_before_anything_else(side: Side) -> None:
    await side.handle(text_message(1, ADA, "/status"), text_message(2, ADA, "/delete"))
    assert all("no assistant" in text for text in await side.said(ADA))
    assert await side.user(ADA) is None


async def test_whoever_blocks_the_bot_has_their_instance_stopped(side: Side, gateways: Gateways) -> None:
    await side.send(text_message(1, ADA, "hello"))
    await eventually(lambda: side.wish(ADA))
    await side.handle(membership(2, ADA, blocked=True))
    user, wish = await side.user(ADA), await side.wish(ADA)
    assert user is not None
    assert wish is not None
    assert (user.status, wish.wanted) == (UserStatus.BLOCKED, Wanted.STOPPED)
    assert await side.status(1) == "pending"
    await side.handle(membership(3, ADA, blocked=False))
    await side.bring_up(ADA)
    await side.until(1, "delivered")
    user = await side.user(ADA)
    assert user is not None
    assert user.status == UserStatus.ACTIVE


async def test_whoever_writes_is_not_blocked_any_more(side: Side) -> None:
    await side.handle(text_message(1, ADA, "/start"), membership(2, ADA, blocked=True))
    await side.send(text_message(3, ADA, "here again"))

    async def active() -> bool:
        user, wish = await side.user(ADA), await side.wish(ADA)
        return user is not None and user.status == "active" and wish is not None and wish.wanted == "awake"

    await eventually(active)


async def test_refusals_are_polite_and_told_once(
    make_context: Callable[[Settings], FrontContext], make_settings: Callable[..., Settings], gateways: Gateways
) -> None:
    context = make_context(make_settings(admission="invite"))
    async with running_side(context, gateways.port) as side:
        for number in range(1, 4):
            await side.send(text_message(number, ADA, "hello"))
            await side.until(number, "handled")
        await side.handle(text_message(4, ADA, "/start"))
        assert ["by invitation" in text for text in await side.said(ADA)] == [True]
        assert await side.wish(ADA) is None
        # Asking with a code deserves an answer each time.
        await side.handle(text_message(5, ADA, "/start wrong-code"), text_message(6, ADA, "/start wrong-code"))
        assert sum("does not work" in text for text in await side.said(ADA)) == 2
        async with context.database.write() as session:
            [code] = await invites.create(session)
        await side.handle(text_message(7, ADA, f"/start {code}"))
        user = await side.user(ADA)
        assert user is not None
        assert (user.status, user.invite_code) == ("active", code)
        assert await side.wish(ADA) is not None
        await side.handle(text_message(8, BEN, f"/start {code}"))
        assert "does not work" in (await side.said(BEN))[-1]


async def test_a_suspended_person_is_told_once_and_nothing_is_delivered(side: Side, gateways: Gateways) -> None:
    await side.handle(text_message(1, ADA, "/start"))
    await side.bring_up(ADA)
    async with side.context.database.write() as session:
        user = (await session.scalars(select(User))).one()
        await people.suspend(session, user)
    for number in (2, 3):
        await side.send(text_message(number, ADA, "hello"))
        await side.until(number, "handled")
    assert sum("suspended" in text for text in await side.said(ADA)) == 1
    assert gateways.update_ids("127.0.0.1") == []


async def test_an_update_that_cannot_be_handled_does_not_block_the_next(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(side.router._desk._commands, "_status", broken)
    await side.handle(text_message(1, ADA, "/status"), text_message(2, ADA, "/help"))
    assert [row.last_error for row in await side.rows()] == ["It could not be handled.", None]
    assert "Just write" in (await side.said(ADA))[-1]
