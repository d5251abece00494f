"""What the table lets through and what it does not: each attempt is made, and counted where it would land."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import DEVNULL, PIPE, Popen

import pytest

from tests.e2e.network.conftest import FETCHER, SPEAKER, STRANGER
from tests.e2e.network.namespaces import (
    ANNA,
    BERT,
    GATEWAY,
    GATEWAY6,
    HOST_PUBLIC,
    HOST_SECOND,
    OTHER,
    PUBLIC,
    PUBLIC6,
    PUBLIC_TOO,
    PUBLISHED,
    REFUSED_TARGETS,
    Attempt,
    Namespace,
    World,
)

_INTERNET = [Attempt(PUBLIC, 443), Attempt(PUBLIC_TOO, 80), Attempt(PUBLIC, 9000, "udp")]
_ZAKI = [Attempt(GATEWAY, 8081)]
#: What no instance reaches, whatever its policy.
_NEVER = [
    *(Attempt(address, port) for address in REFUSED_TARGETS for port in (80, 443)),
    *(Attempt(address, 80, "udp") for address in REFUSED_TARGETS),
    *(Attempt(PUBLIC, port) for port in (25, 465, 587)),
    *(Attempt(address, port) for address in (GATEWAY, HOST_PUBLIC, HOST_SECOND) for port in (22, 443, 9000)),
    *(Attempt(address, 8081) for address in (HOST_PUBLIC, HOST_SECOND)),
    Attempt(GATEWAY, 8081, "udp"),
    Attempt(HOST_PUBLIC, PUBLISHED),
    Attempt(OTHER, 80),
    *(Attempt(BERT, port, kind) for port in (22, 8080) for kind in ("tcp", "udp")),
    Attempt(PUBLIC6, 443),
    Attempt(GATEWAY6, 22),
    Attempt(GATEWAY6, 8081),
    Attempt("fd00:86::3", 443),
]


def refused(world: World, who: Namespace, attempts: Sequence[Attempt], *, user: str | None = None) -> None:
    """Check that nothing of it is answered, and that nothing of it lands."""
    world.watch()
    outcomes = who.attempt(*attempts, user=user)
    assert [one for one, outcome in zip(attempts, outcomes, strict=True) if outcome == "answered"] == []
    assert world.landed() & {one.landing for one in attempts} == set()
    # A published port lands elsewhere.
    assert world.other.landed() == set()


def answered(who: Namespace, attempts: Sequence[Attempt], *, user: str | None = None) -> None:
    """Check that all of it is answered."""
    outcomes = who.attempt(*attempts, user=user)
    assert [(one, outcome) for one, outcome in zip(attempts, outcomes, strict=True) if outcome != "answered"] == []


def admit(world: World, *members: str) -> None:
    """Write the provisioner's file and load: `ADDRESS open` or `ADDRESS PORT` each."""
    world.members.write_text("".join(f"{member}\n" for member in members))
    assert world.load().returncode == 0


def test_without_the_table_all_of_it_lands(bare: World) -> None:
    # Else the other tests would prove nothing.
    bare.watch()
    outcomes = bare.anna.attempt(*_NEVER, *_INTERNET, *_ZAKI)
    reached = bare.landed() | bare.host.landed()
    unreached = [
        one
        for one, outcome in zip([*_NEVER, *_INTERNET, *_ZAKI], outcomes, strict=True)
        if outcome != "answered" and one.landing not in reached
    ]
    assert unreached == []
    # Nothing is on its way still, to land in another test.
    assert bare.anna.attempt(Attempt(PUBLIC6, 443), Attempt(GATEWAY6, 22)) == ["answered", "answered"]


def test_none_reaches_zaki_and_nothing_else(guarded: World) -> None:
    answered(guarded.anna, _ZAKI)
    refused(guarded, guarded.anna, [*_NEVER, *_INTERNET, Attempt(GATEWAY, 53, "udp"), Attempt(GATEWAY, 3128)])


def test_open_reaches_the_internet_and_nothing_else(guarded: World) -> None:
    admit(guarded, f"{ANNA} open")
    answered(guarded.anna, [*_ZAKI, *_INTERNET])
    refused(guarded, guarded.anna, [*_NEVER, Attempt(GATEWAY, 3128)])
    # It is one instance's, not everybody's.
    refused(guarded, guarded.bert, _INTERNET)


def test_list_reaches_the_port_of_its_own_list_and_nothing_else(guarded: World) -> None:
    admit(guarded, f"{ANNA} 3128", f"{BERT} 3129")
    with guarded.host.serving([53, 3128, 3129]):
        answered(guarded.anna, [*_ZAKI, Attempt(GATEWAY, 3128)])
        answered(guarded.bert, [*_ZAKI, Attempt(GATEWAY, 3129)])
        asked = [Attempt(GATEWAY, 3129), Attempt(GATEWAY, 53, "udp"), Attempt(GATEWAY, 53), Attempt(HOST_PUBLIC, 3128)]
        refused(guarded, guarded.anna, [*_NEVER, *_INTERNET, *asked])


def test_only_open_may_ask_for_names(guarded: World) -> None:
    names = [Attempt(GATEWAY, 53), Attempt(GATEWAY, 53, "udp")]
    with guarded.host.serving([53]):
        refused(guarded, guarded.anna, names)
        admit(guarded, f"{ANNA} open")
        answered(guarded.anna, names)
        refused(guarded, guarded.anna, [dataclasses.replace(one, to=HOST_PUBLIC) for one in names])


def test_nothing_comes_in_from_outside(guarded: World) -> None:
    admit(guarded, f"{ANNA} open")
    refused(guarded, guarded.internet, [Attempt(ANNA, 443), Attempt(ANNA, 9000, "udp"), Attempt("fd00:86::2", 443)])
    # Neither by a port that Docker published nor past it; the host's own ports are UFW's.
    refused(guarded, guarded.internet, [Attempt(HOST_PUBLIC, PUBLISHED), Attempt(OTHER, 80)])
    answered(guarded.internet, [Attempt(HOST_PUBLIC, 443)])
    answered(guarded.other, [Attempt(PUBLIC, 443)])


def test_only_zaki_opens_connections_to_instances(guarded: World) -> None:
    inside = [Attempt(ANNA, 8080), Attempt(BERT, 8080)]
    answered(guarded.host, inside)
    answered(guarded.host, inside, user=SPEAKER)
    refused(guarded, guarded.host, [*inside, Attempt("fd00:86::2", 8080)], user=STRANGER)


def test_who_fetches_for_instances_reaches_the_internet_only(guarded: World) -> None:
    answered(guarded.host, [Attempt(PUBLIC, 443), Attempt(PUBLIC_TOO, 80)], user=FETCHER)
    own = [Attempt(address, 22) for address in (GATEWAY, HOST_PUBLIC, HOST_SECOND, "127.0.0.1")]
    private = [Attempt(address, 80, kind) for address in REFUSED_TARGETS for kind in ("tcp", "udp")]
    refused(guarded, guarded.host, [*private, *own, Attempt(ANNA, 8080), Attempt(PUBLIC6, 443)], user=FETCHER)
    with guarded.host.serving([53]):
        answered(guarded.host, [Attempt(GATEWAY, 53, "udp")], user=FETCHER)


def test_source_addresses_of_others_go_nowhere(guarded: World) -> None:
    admit(guarded, f"{ANNA} open")
    forged = ("10.99.0.7", "93.184.216.77", "127.0.0.9", GATEWAY, "10.85.255.255", "0.0.0.9")
    guarded.anna.ip(*(f"addr add {address}/32 dev lo" for address in forged))
    claims = [
        Attempt(to, 8081 if to == GATEWAY else 9000, "udp", source) for source in forged for to in (PUBLIC, GATEWAY)
    ]
    try:
        guarded.watch()
        guarded.anna.attempt(*claims)
        assert guarded.internet.landed() == set()
        # Nor as the neighbour, whose policy is another one.
        guarded.anna.ip(f"addr add {BERT}/32 dev lo")
        refused(guarded, guarded.anna, [dataclasses.replace(one, source=BERT) for one in _INTERNET])
        guarded.anna.ip(f"addr del {BERT}/32 dev lo")
    finally:
        guarded.anna.ip(*(f"addr del {address}/32 dev lo" for address in forged))


def test_a_reload_cuts_nobody_off_and_lets_nothing_through(guarded: World) -> None:
    admit(guarded, f"{ANNA} open")
    with talking(guarded.anna, PUBLIC, 443) as anna, talking(guarded.bert, GATEWAY, 8081) as bert:
        for _ in range(5):
            assert guarded.load().returncode == 0
            assert say(anna, "still there?") == "still there?"
            assert say(bert, "and we?") == "and we?"
            refused(guarded, guarded.anna, _NEVER[:4])
        answered(guarded.anna, _INTERNET)


def test_nothing_passes_while_it_is_loaded(guarded: World) -> None:
    tries = [Attempt(address, 443) for address in REFUSED_TARGETS for _ in range(20)]
    command = guarded.host.command("bash", "-c", f"for n in {{1..12}}; do bash {guarded.folder}/firewall load; done")
    with Popen(command, stdout=DEVNULL) as loading:
        while loading.poll() is None:
            refused(guarded, guarded.anna, tries)
    assert loading.returncode == 0


def test_a_closed_policy_ends_what_is_open(guarded: World) -> None:
    admit(guarded, f"{ANNA} open")
    with talking(guarded.anna, PUBLIC, 443) as anna:
        assert say(anna, "open") == "open"
        guarded.nft("delete element inet zaki egress_open { " + ANNA + " }")
        assert say(anna, "closed") == ""


@pytest.mark.parametrize(
    "harm",
    [
        ["flush", "ruleset"],
        ["delete", "table", "inet", "zaki"],
        ["flush", "chain", "inet", "zaki", "forward"],
        ["insert", "rule", "inet", "zaki", "forward", "accept"],
        ["add", "chain", "inet", "zaki", "mine"],
    ],
)
def test_what_a_hand_changes_is_put_back(guarded: World, harm: list[str]) -> None:
    admit(guarded, f"{ANNA} open")
    kept = guarded.nft("list", "table", "ip", "nat")
    assert guarded.load("status").returncode == 0
    guarded.nft(*harm)
    assert guarded.load("status").returncode == 1
    checked = guarded.load("check")
    assert (checked.returncode, "put back" in checked.stderr) == (0, True)
    assert guarded.load("status").returncode == 0
    answered(guarded.anna, [*_ZAKI, *_INTERNET])
    refused(guarded, guarded.anna, [one for one in _NEVER if one.port != PUBLISHED])
    guarded.host.run("nft", "-f", "-", text=f"table ip nat\ndelete table ip nat\n{kept}")


def test_a_check_that_finds_nothing_changes_nothing(guarded: World) -> None:
    guarded.nft("add", "element", "inet", "zaki", "egress_open", "{", ANNA, "}")
    checked = guarded.load("check")
    assert (checked.returncode, checked.stderr) == (0, "")
    answered(guarded.anna, _INTERNET)


def test_members_that_cannot_be_read_leave_the_sets_empty(guarded: World) -> None:
    admit(guarded, f"{ANNA} open", "999.1.1.1 open")
    refused(guarded, guarded.anna, _INTERNET)
    # What has not the form of a member is nothing that could be run.
    admit(guarded, f"{ANNA} open", "10.86.0.9 }; flush ruleset", "$(reboot) open", "10.86.0.8 open; flush ruleset")
    answered(guarded.anna, _INTERNET)
    refused(guarded, guarded.anna, _NEVER)


def test_open_connections_of_one_are_limited(guarded: World) -> None:
    guarded.write(dataclasses.replace(guarded.firewall, connections=6))
    admit(guarded)
    with holding(guarded.anna, GATEWAY, 8081, 6):
        refused(guarded, guarded.anna, _ZAKI)
        answered(guarded.bert, _ZAKI)
    answered(guarded.bert, _ZAKI)


def test_new_connections_of_one_are_limited(guarded: World) -> None:
    guarded.write(dataclasses.replace(guarded.firewall, new_connections=1, new_at_once=5))
    admit(guarded)
    outcomes = guarded.anna.attempt(*(_ZAKI * 40))
    assert {"answered", "silence"} == set(outcomes)
    assert outcomes.count("answered") < 20
    answered(guarded.bert, _ZAKI)


def test_bytes_of_one_are_limited_both_ways(guarded: World) -> None:
    guarded.write(dataclasses.replace(guarded.firewall, rate_kbytes=8, burst_kbytes=64))
    admit(guarded, f"{ANNA} open", f"{BERT} open")
    guarded.internet.run("nft", "-f", "-", text=_counting(PUBLIC))
    guarded.anna.run("nft", "-f", "-", text=_counting(ANNA))
    flood(guarded.anna, PUBLIC)
    # A burst is 64 of these datagrams, and a few more follow in the time that it takes.
    assert 0 < counted(guarded.internet) < 200
    flood(guarded.host, ANNA)
    assert 0 < counted(guarded.anna) < 200
    answered(guarded.bert, _INTERNET)


_TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as talk:
    file = talk.makefile("rw")
    print(file.readline(), end="", flush=True)
    for line in sys.stdin:
        talk.settimeout(1)
        try:
            file.write(line)
            file.flush()
            print(file.readline(), end="", flush=True)
        except OSError:
            print(flush=True)
"""

_HOLD = """
import socket, sys
held = [socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) for _ in range(int(sys.argv[3]))]
for one in held:
    one.recv(1)
print("holding", flush=True)
sys.stdin.read()
"""

_FLOOD = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for _ in range(1000):
        try:
            sender.sendto(bytes(1000), (sys.argv[1], 9001))
        except PermissionError:
            pass
"""


@contextmanager
def talking(who: Namespace, to: str, port: int) -> Iterator[Popen[str]]:
    """A connection that is open during the block; :func:`say` something over it."""
    with Popen(who.command(sys.executable, "-c", _TALK, to, str(port)), stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "hello\n"
        yield process
        process.terminate()


def say(talk: Popen[str], words: str) -> str:
    """What the other side answers; empty where nothing comes back."""
    assert talk.stdin is not None
    assert talk.stdout is not None
    talk.stdin.write(f"{words}\n")
    talk.stdin.flush()
    return talk.stdout.readline().strip()


@contextmanager
def holding(who: Namespace, to: str, port: int, count: int) -> Iterator[None]:
    """That many open connections during the block."""
    command = who.command(sys.executable, "-c", _HOLD, to, str(port), str(count))
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        yield
        process.terminate()


def flood(who: Namespace, to: str) -> None:
    """A thousand datagrams of a thousand bytes."""
    who.run(sys.executable, "-c", _FLOOD, to)


def _counting(address: str) -> str:
    return f"""\
add table inet flood
delete table inet flood
table inet flood {{
  counter arrived {{ }}
  chain arriving {{
    type filter hook prerouting priority -150; policy accept;
    ip daddr {address} udp dport 9001 counter name arrived
  }}
}}
"""


def counted(where: Namespace) -> int:
    """How many of them arrived."""
    answer = json.loads(where.run("nft", "-j", "list", "counter", "inet", "flood", "arrived").stdout)
    [found] = [entry["counter"]["packets"] for entry in answer["nftables"] if "counter" in entry]
    return int(found)
