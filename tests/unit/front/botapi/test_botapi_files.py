"""Paths of ours for Telegram's files, and the command menu."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.credentials import FrontKey
from bot.front.botapi.files import Download, inward, outward, with_our_path
from bot.front.botapi.in_flight import InFlight
from bot.front.botapi.menu import concerns_owner, merged, theirs_alone
from bot.front.botapi.refusals import Refused
from bot.front.menu import COMMANDS
from bot.front.telegram import TelegramApi

KEY = FrontKey(bytes(32))
MINE, OTHER = "u-aaaaaaaaaa", "u-bbbbbbbbbb"


def test_a_path_leads_back_for_its_instance_alone() -> None:
    path = outward(KEY, MINE, "photos/file_1.jpg")
    assert path is not None
    assert path.endswith("/file_1.jpg")
    assert inward(KEY, MINE, path) == "photos/file_1.jpg"
    assert inward(KEY, OTHER, path) is None
    assert inward(FrontKey(bytes([1]) * 32), MINE, path) is None


@given(st.text(max_size=80))
def test_what_we_did_not_give_leads_nowhere(path: str) -> None:
    assert inward(KEY, MINE, path) is None


@pytest.mark.parametrize("path", ["/var/lib/x", "../x", "a/../b", "a//b", "a/.b", "", "a\nb", "a?b", "a/", "päth"])
def test_only_paths_of_telegrams_cloud_are_given(path: str) -> None:
    assert outward(KEY, MINE, path) is None
    answer = {"ok": True, "result": {"file_id": "x", "file_path": path}}
    assert path not in str(with_our_path(answer, KEY, MINE)) or path == ""


def test_zakis_commands_come_first_and_cannot_be_replaced() -> None:
    theirs = [{"command": "/Start", "description": "Mine"}, {"command": "new", "description": "New"}]
    menu = merged({"commands": theirs, "language_code": "DE"}, 7)
    assert menu["scope"] == {"type": "chat", "chat_id": 7}
    assert menu["language_code"] == "de"
    names = [command["command"] for command in menu["commands"]]
    assert names == [*(name for name, _ in COMMANDS), "new"]
    assert theirs_alone(menu["commands"]) == [{"command": "new", "description": "New"}]


def test_a_menu_has_no_more_than_telegram_takes() -> None:
    theirs = [{"command": f"c{number}", "description": "x"} for number in range(100)]
    assert len(merged({"commands": theirs}, 7)["commands"]) == 100


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"commands": "x"},
        {"commands": ["x"]},
        {"commands": [{"command": 1}]},
        {"commands": [], "language_code": "x/"},
    ],
)
def test_a_menu_that_makes_no_sense_is_refused(params: dict[str, object]) -> None:
    with pytest.raises(Refused):
        merged(params, 7)


def test_menus_of_groups_are_not_the_owners() -> None:
    assert concerns_owner({})
    assert concerns_owner({"scope": {"type": "chat", "chat_id": 7}})
    assert not concerns_owner({"scope": {"type": "all_group_chats"}})


class OneFile:
    """Telegram's side of a download; `open` while a connection to it is."""

    open = False

    @asynccontextmanager
    async def download(self, _path: str) -> AsyncIterator[httpx.Response]:
        """A file."""
        self.open = True
        try:
            yield httpx.Response(200, stream=httpx.ByteStream(b"file"))
        finally:
            self.open = False


async def _download(telegram: OneFile, in_flight: InFlight, send: Any) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "headers": []}
    await Download(cast(TelegramApi, telegram), "documents/file_1", in_flight, MINE)(scope, receive, send)


async def test_who_never_reads_a_file_holds_no_connection_to_telegram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.front.botapi.files._WITHIN", 0.05)
    telegram, in_flight = OneFile(), InFlight(1)
    seen: list[tuple[bool, bool]] = []

    async def never(_message: Any) -> None:
        seen.append((telegram.open, in_flight.enter(MINE)))
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        await _download(telegram, in_flight, never)
    # It counted as a request under way, and does not any more.
    assert seen == [(True, False)]
    assert not telegram.open
    assert in_flight.enter(MINE)


async def test_downloads_count_among_an_instances_requests() -> None:
    telegram, sent = OneFile(), []

    async def send(message: Any) -> None:
        sent.append(message)

    await _download(telegram, InFlight(0), send)
    assert sent[0]["status"] == 400
    await _download(telegram, InFlight(1), send)
    assert b"".join(message.get("body", b"") for message in sent[2:]) == b"file"
