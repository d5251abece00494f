"""No secret leaves through the logs, whatever carries it there."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from bot import logs
from bot.settings import Settings

TOKEN = "123456789:AAtests-only-not-a-real-token-000000"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where logs go during a test; the logging of everything else is as before afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure(["s3cret", 'quo"ted'], stream=stream)
    yield stream
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_lines_are_json_where_nobody_watches(stream: io.StringIO) -> None:
    structlog.get_logger().info("started", port=8080)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["port"], line["level"]) == ("started", 8080, "info")


def test_a_secret_in_a_message_or_field_is_hidden(stream: io.StringIO) -> None:
    structlog.get_logger().info("the key is s3cret", where={"deep": ["s3cret"]}, other='quo"ted')
    assert "s3cret" not in stream.getvalue()
    assert "ted" not in json.loads(stream.getvalue())["other"]


def test_a_secret_in_a_traceback_is_hidden(stream: io.StringIO) -> None:
    try:
        raise ValueError("s3cret")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "ValueError" in stream.getvalue()
    assert "s3cret" not in stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        f"POST https://api.telegram.org/bot{TOKEN}/sendMessage",
        "virtual 1234567890:Zabcdefghij0123456789_-0123456789",
        "Bearer sk-zaki-abcdefghij-0123456789012345678901234567890123456789012",
    ],
)
def test_tokens_are_hidden_by_their_shape_in_logs_of_any_library(stream: io.StringIO, text: str) -> None:
    logging.getLogger("some.library").warning(text)
    written = stream.getvalue()
    assert "[secret]" in written
    assert text.split("bot")[-1].split("/")[0].split()[-1] not in written


def test_libraries_that_log_urls_are_quiet(stream: io.StringIO) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET http://example.org/")
    assert stream.getvalue() == ""


def test_the_settings_secrets_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZAKI_STATE", raising=False)
    settings = Settings(
        _env_file=None,
        telegram_token=TOKEN,
        model_url="https://models.example/v1",
        model="m",
        model_key="the-key",
        database_url="postgresql://zaki:pass-word@db/zaki",
    )
    assert set(logs.secrets_of(settings)) == {TOKEN, "the-key", "pass-word"}
