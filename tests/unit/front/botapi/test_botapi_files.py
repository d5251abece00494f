"""Paths of ours for Telegram's files, and the command menu."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.credentials import FrontKey
from bot.front.botapi.files import inward, outward, with_our_path
from bot.front.botapi.menu import concerns_owner, merged, theirs_alone
from bot.front.botapi.refusals import Refused
from bot.front.menu import COMMANDS

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
