"""What a machine says of itself, and what becomes of it."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

import infra.look
from infra.look import HostState, HostTrouble

BARE = "system\tdebian 12\nsystemd\tyes\nnow\t1700000000\nfree\t/\t9000\nfree\t/var\t9000\n"


def test_bare_machine_has_every_step_before_it() -> None:
    found = HostState.parse(BARE + "end\n")
    found.require("host")
    assert found.token("sshd") == "1700000000"


def test_step_that_holds_keeps_its_token() -> None:
    found = HostState.parse(BARE + "step\tsshd\t1600000000\nend\n")
    assert found.token("sshd") == "1600000000"


def test_step_that_was_meddled_with_gets_another_one() -> None:
    said = "step\tsshd\t1600000000\ndrift\tsshd\t/etc/x was edited\ndrift\tsshd\tsshd does not run\nend\n"
    found = HostState.parse(BARE + said)
    assert found.token("sshd") == "1700000000"
    assert found.drift == {"sshd": ("/etc/x was edited", "sshd does not run")}


def test_person_with_the_instances_id_is_warned_of() -> None:
    [warning] = HostState.parse(BARE + "user\tada\nend\n").warnings
    assert warning.startswith("ada has the user id 1000")


def test_half_an_answer_is_none() -> None:
    with pytest.raises(HostTrouble, match="did not say what it is"):
        HostState.parse(BARE)


@pytest.mark.parametrize(
    ("system", "systemd", "what"),
    [
        ("debian 11", "systemd\tyes\n", "runs debian 11, and a host needs Debian 12 or newer"),
        ("ubuntu 24.04", "systemd\tyes\n", "runs ubuntu 24.04, and"),
        ("debian 12", "", "runs debian 12 without systemd"),
        ("debian ", "systemd\tyes\n", "and a host needs Debian"),
    ],
)
def test_system_that_no_step_was_written_for_is_refused(system: str, systemd: str, what: str) -> None:
    with pytest.raises(HostTrouble, match=what):
        HostState.parse(f"system\t{system}\n{systemd}now\t1\nend\n").require("host")


def test_full_disk_is_refused_with_its_path() -> None:
    with pytest.raises(HostTrouble, match="has 7 MiB left on /var, and 300 are needed; free some room there"):
        HostState.parse(BARE.replace("/var\t9000", "/var\t7") + "end\n").require("host")


@pytest.mark.parametrize("taken", ["127.0.0.1:8080", "0.0.0.0:8080", "*:8080", "[::]:8080"])
def test_port_that_somebody_else_has_is_refused_with_their_name(taken: str) -> None:
    found = HostState.parse(BARE + f"listens\t127.0.0.1:80\tapache2\nlistens\t{taken}\tnginx\nend\n")
    with pytest.raises(HostTrouble, match=r"^nginx listens at port 8080 of host .* stop it, or give it another port"):
        found.require_free("host", ["10.86.0.1:8081", "127.0.0.1:8080"])
    found.require_free("host", ["10.86.0.1:8081"])


def test_machine_tells_who_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = "{}:{}".format(*listener.getsockname())
        script = Path(infra.look.__file__).with_name("look.sh").read_text()
        said = subprocess.run(["bash", "-s"], input=script, capture_output=True, text=True, check=True).stdout
    assert HostState.parse(said).listening[endpoint] == Path("/proc/self/comm").read_text().strip()
