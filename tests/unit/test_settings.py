"""Settings: unsafe combinations are refused with one sentence that names the setting."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bot.settings import Admission, SettingsError, load_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("ZAKI_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"public_url": "http://bot.example.org"}, "ZAKI_PUBLIC_URL"),
        ({"public_url": "ftp://bot.example.org"}, "ZAKI_PUBLIC_URL"),
        ({"model": "x"}, "ZAKI_MODEL"),
        ({"model_url": "https://models.example.org/v1"}, "ZAKI_MODEL"),
        ({"listen": "0.0.0.0:8080"}, "ZAKI_LISTEN"),
        ({"listen": "localhost"}, "ZAKI_LISTEN"),
        ({"instances_listen": "0.0.0.0:8081"}, "ZAKI_INSTANCES_LISTEN"),
        ({"admission": "open"}, "ZAKI_OPERATORS"),
        ({"admission": "everybody"}, "ZAKI_ADMISSION"),
        ({"max_instances": -1}, "ZAKI_MAX_INSTANCES"),
        ({"pool": -1}, "ZAKI_POOL"),
        ({"daily_tokens": 0}, "ZAKI_DAILY_TOKENS"),
        ({"operators": "me"}, "ZAKI_OPERATORS"),
        ({"image": "openclaw:latest"}, "ZAKI_IMAGE"),
    ],
)
def test_refused(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], setting: str) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(f"ZAKI_{name.upper()}", str(value))
    with pytest.raises(SettingsError) as refused:
        load_settings()
    sentence = str(refused.value)
    assert setting in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_admission_defaults_to_invite_with_telegram_and_open_in_the_simulator() -> None:
    assert load_settings().effective_admission is Admission.INVITE
    assert load_settings(telegram_api="http://127.0.0.1:9000").effective_admission is Admission.OPEN


def test_operators_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAKI_OPERATORS", "12, 34")
    assert load_settings().operators == (12, 34)


def test_a_missing_token_is_explained() -> None:
    with pytest.raises(SettingsError, match="ZAKI_TELEGRAM_TOKEN"):
        load_settings().require_token()


def test_the_token_is_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAKI_TELEGRAM_TOKEN", "123:secret")
    assert "secret" not in repr(load_settings())


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgres://db/zaki", "postgresql+asyncpg://db/zaki"),
        ("postgresql://db/zaki", "postgresql+asyncpg://db/zaki"),
        ("sqlite:////tmp/x.db", "sqlite+aiosqlite:////tmp/x.db"),
        ("postgresql+asyncpg://db/zaki", "postgresql+asyncpg://db/zaki"),
    ],
)
def test_database_urls_get_their_driver(given: str, used: str) -> None:
    assert load_settings(database_url=given).effective_database_url == used
