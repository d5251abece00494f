"""What `zaki demo` says when it is up."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path
from types import SimpleNamespace

import pytest

from bot.cli import run
from bot.cli.output import ExitCode

PAGE = "http://127.0.0.1:8484"


def test_one_link_is_to_be_opened(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def main_loop(_stop: asyncio.Event) -> None: ...

    @asynccontextmanager
    async def running_demo(*_arguments: object) -> AsyncIterator[object]:
        host = SimpleNamespace(bridge="zaki-demo", subnet=IPv4Network("10.87.0.0/20"))
        yield SimpleNamespace(page=PAGE, service=SimpleNamespace(host=host, main_loop=main_loop))

    monkeypatch.setattr("bot.demo.app.running_demo", running_demo)
    monkeypatch.setattr("bot.logs.configure", lambda **_given: None)
    monkeypatch.setenv("ZAKI_STATE", str(tmp_path / "state"))
    assert run(["demo"]) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert re.findall(r"https?://[^ ]+", out + err) == [PAGE]
    assert out.count("Open ") == 1
    assert str(tmp_path / "state") in err
    assert "zaki-demo" in err
