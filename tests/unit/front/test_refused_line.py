"""The line by which fail2ban bans, and nothing but it."""

from __future__ import annotations

from io import StringIO

import pytest
from fastapi import Request

from bot.front.refused import RefusedLine
from infra.hardening import REFUSED_LINE


def refused(*hosts: str, at: float = 0.0, line: RefusedLine | None = None, stream: StringIO | None = None) -> list[str]:
    stream = stream or StringIO()
    line = line or RefusedLine(stream, lambda: at)
    for host in hosts:
        line.note(Request({"type": "http", "client": (host, 1234)}))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize(
    ("host", "named"),
    [("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:DB8::0:1", "2001:db8::1")],
)
def test_an_address_is_written_as_bans_know_it(host: str, named: str) -> None:
    assert refused(host) == [REFUSED_LINE.replace("<ADDR>", named)]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "0.0.0.0", "fe80::1%eth0", "unix:", "", "x\nzaki refused 1"],
)
def test_this_machine_and_what_is_no_address_are_never_named(host: str) -> None:
    assert refused(host) == []


def test_a_request_of_nobody_is_not_named() -> None:
    stream = StringIO()
    RefusedLine(stream).note(Request({"type": "http", "client": None}))
    assert stream.getvalue() == ""


def test_a_flood_does_not_fill_the_journal() -> None:
    now = [0.0]
    stream = StringIO()
    line = RefusedLine(stream, lambda: now[0])
    assert len(refused(*["192.0.2.7"] * 1000, line=line, stream=stream)) == 10
    # Others are still named.
    assert refused("192.0.2.8", line=line, stream=stream)[-1] == "zaki refused 192.0.2.8"
    many = [f"2001:db8::{number:x}" for number in range(2000)]
    assert len(refused(*many, line=line, stream=stream)) == 600
    now[0] = 60.0
    assert len(refused("192.0.2.7", line=line, stream=stream)) == 601
