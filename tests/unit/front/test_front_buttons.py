"""Signed buttons: only ours, only for whom they were made, and short enough for Telegram."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.credentials import FrontKey
from bot.front.callbacks import ForgedButton, Press, read, sign
from bot.users import zones

KEY = FrontKey(b"k" * 32)
ADA, BEN = 4711, 4712


def test_a_button_says_what_it_was_made_for() -> None:
    for said in (Press("name", "first"), Press("tz", "Europe/Berlin"), Press("del", "yes.1760000000"), Press("x")):
        assert read(KEY, ADA, sign(KEY, ADA, said)) == said


def test_a_button_is_one_persons_and_one_keys() -> None:
    data = sign(KEY, ADA, Press("del", "yes"))
    for key, telegram_id in ((KEY, BEN), (FrontKey(secrets.token_bytes(32)), ADA)):
        with pytest.raises(ForgedButton):
            read(key, telegram_id, data)


@given(at=st.integers(0, 63), letter=st.characters())
def test_a_changed_button_is_refused(at: int, letter: str) -> None:
    data = sign(KEY, ADA, Press("tz", "Europe/Berlin"))
    changed = data[: at % len(data)] + letter + data[at % len(data) + 1 :]
    if changed == data:
        return
    with pytest.raises(ForgedButton):
        read(KEY, ADA, changed)


@given(data=st.text() | st.text().map(lambda text: f"zk:{text}"))
def test_made_up_data_is_refused(data: str) -> None:
    with pytest.raises(ForgedButton):
        read(KEY, ADA, data)


def test_every_zone_fits_into_a_button() -> None:
    everybody = 2**52 - 1
    for region in zones.REGIONS:
        for argument in (f"@{region}", *zones.region(region)):
            assert len(sign(KEY, everybody, Press("tz", argument))) <= 64


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        sign(KEY, ADA, Press("tz", "x" * 60))
