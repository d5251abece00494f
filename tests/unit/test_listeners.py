"""Sockets of the service."""

from __future__ import annotations

import os
import socket

import pytest

from bot import listeners
from bot.listeners import ListenError, listen, passed_sockets, url_of

#: Of the range for documentation: no machine has it.
NOBODYS = "192.0.2.1"


def test_a_free_port_is_taken_and_named() -> None:
    with listen("127.0.0.1", 0, "ZAKI_LISTEN") as listener:
        port = listener.getsockname()[1]
        assert url_of(listener) == f"http://127.0.0.1:{port}"
        socket.create_connection(("127.0.0.1", port)).close()


def test_an_address_that_is_in_use_names_the_setting() -> None:
    with listen("127.0.0.1", 0, "ZAKI_LISTEN") as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ListenError, match=rf"^127\.0\.0\.1:{port} is in use.*set ZAKI_LISTEN\.$"):
            listen("127.0.0.1", port, "ZAKI_LISTEN")


def test_an_address_of_another_machine_is_refused_unless_it_may_come_later() -> None:
    with pytest.raises(ListenError, match="ZAKI_INSTANCES_LISTEN"):
        listen(NOBODYS, 0, "ZAKI_INSTANCES_LISTEN")
    with listen(NOBODYS, 0, "ZAKI_INSTANCES_LISTEN", free=True) as listener:
        assert listener.getsockname()[0] == NOBODYS


def test_sockets_of_systemd_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen("127.0.0.1", 0, "ZAKI_LISTEN") as first, listen("127.0.0.1", 0, "ZAKI_LISTEN") as second:
        # Two descriptors in a row, as systemd passes them from 3 on.
        start = 200
        os.dup2(first.fileno(), start)
        os.dup2(second.fileno(), start + 1)
        monkeypatch.setattr(listeners, "_FIRST_PASSED", start)
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "public:bridge"}
        passed = passed_sockets(environment)
        try:
            assert {name: url_of(passed[name]) for name in passed} == {
                "public": url_of(first),
                "bridge": url_of(second),
            }
        finally:
            for listener in passed.values():
                listener.close()


def test_sockets_for_another_process_are_left_alone() -> None:
    environment = {"LISTEN_PID": str(os.getppid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "public"}
    assert passed_sockets(environment) == {}
