"""Virtual credentials: derived, checked, revoked, and never shared between purposes or instances."""

from __future__ import annotations

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bot.credentials import (
    FrontKey,
    GatewayKey,
    KeyMissing,
    instance_of_bot_token,
    instance_of_model_key,
    load_key,
    new_instance_id,
    read_key,
)


def test_a_bot_token_has_telegrams_form_and_names_its_instance() -> None:
    instance_id = new_instance_id()
    token = FrontKey(b"k" * 32).derive(instance_id, 1).bot_token
    assert re.fullmatch(r"\d{10}:[A-Za-z0-9_-]{35}", token)
    assert instance_of_bot_token(token) == instance_id


def test_a_model_key_names_its_instance() -> None:
    instance_id = new_instance_id()
    assert instance_of_model_key(FrontKey(b"k" * 32).derive(instance_id, 1).model_key) == instance_id


@pytest.mark.parametrize("text", ["", "x", "123:abc", "sk-zaki-abc", "1234567890:Z" + "a" * 33, "\x00" * 46])
def test_other_texts_name_no_instance(text: str) -> None:
    assert instance_of_bot_token(text) is None
    assert instance_of_model_key(text) is None


def test_every_credential_differs_by_instance_epoch_and_purpose() -> None:
    key = FrontKey(b"k" * 32)
    secrets = [
        secret
        for instance_id in ("u-aaaaaaaaaa", "u-bbbbbbbbbb")
        for epoch in (1, 2)
        for secret in (
            key.derive(instance_id, epoch).bot_token,
            key.derive(instance_id, epoch).model_key,
            key.derive(instance_id, epoch).webhook_secret,
            GatewayKey(b"k" * 32).derive(instance_id, epoch),
        )
    ]
    assert len(set(secrets)) == len(secrets)


def test_credentials_show_nothing_when_printed() -> None:
    derived = FrontKey(b"k" * 32).derive("u-aaaaaaaaaa", 1)
    assert derived.bot_token not in repr(derived)


def test_a_key_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "front.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(load_key, [path] * 32))
    assert len(keys) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["front.key"]


def test_the_front_shares_its_key_with_its_group_and_the_provisioner_none(tmp_path: Path) -> None:
    load_key(tmp_path / "keys" / "front.key", shared=True)
    load_key(tmp_path / "keys" / "provisioner.key")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "keys").iterdir()}
    assert modes == {"front.key": 0o640, "provisioner.key": 0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o750


def test_reading_a_key_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "front.key"
    with pytest.raises(KeyMissing, match="ZAKI_STATE"):
        read_key(path)
    assert not path.parent.exists()
    made = load_key(path)
    assert read_key(path) == made


def test_a_damaged_key_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "front.key"
    path.write_text("not a key")
    with pytest.raises(ValueError, match="restore it from your backup"):
        load_key(path)
    assert path.read_text() == "not a key"
