"""The policies `list` and `open` by name: Debian's own squid and unbound behind the real table."""

from __future__ import annotations

import dataclasses
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from infra.proxy import ProxySpec, render_squid
from infra.resolver import ResolverSpec, render_unbound
from tests.e2e.network.conftest import FETCHER, specified
from tests.e2e.network.namespaces import (
    ANNA,
    BERT,
    GATEWAY,
    METADATA,
    PUBLIC,
    PUBLIC6,
    PUBLIC_TOO,
    Namespace,
    World,
    world,
)

_RESOLVER_USER = "irc"
_NAMES = {
    "ok.example.org": f"{PUBLIC},{PUBLIC6}",
    "deep.wide.example.org": PUBLIC_TOO,
    "large.example.org": PUBLIC,
    "other.example.org": PUBLIC,
    # What the owner of a listed name may do with it.
    "rebound.example.org": METADATA,
    "half.example.org": f"{METADATA},{PUBLIC}",
    "here.example.org": GATEWAY,
    "six.example.org": PUBLIC6,
}
_LISTS = {
    "large": ("large.example.org",),
    "standard": (
        "ok.example.org",
        ".wide.example.org",
        "deep.wide.example.org",
        "rebound.example.org",
        "half.example.org",
        "here.example.org",
    ),
}
_STANDARD, _LARGE = f"http://{GATEWAY}:3128", f"http://{GATEWAY}:3129"


@pytest.fixture(scope="module")
def named() -> Iterator[World]:
    """A world with the proxy, the resolver, and a name server on the internet."""
    # Others read in it, whom pytest's own folders shut out.
    with tempfile.TemporaryDirectory(prefix="zaki-names-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield from _named(folder)


def _named(folder: Path) -> Iterator[World]:
    spec = dataclasses.replace(specified(folder), fetchers=(FETCHER, _RESOLVER_USER), resolvers=(IPv4Address(PUBLIC),))
    certificate = self_signed(folder / "refusal.pem")
    proxy = ProxySpec(
        gateway=spec.gateway,
        subnet=spec.subnet,
        bridge="zaki0",
        ports={"large": 3129, "standard": 3128},
        lists=_LISTS,
        folder=str(folder),
    )
    (folder / "squid.conf").write_text(render_squid(proxy))
    resolver = ResolverSpec(gateway=spec.gateway, subnet=spec.subnet, forwarders=(IPv4Address(PUBLIC),))
    (folder / "unbound.conf").write_text(render_unbound(resolver))
    with ExitStack() as stack:
        made = stack.enter_context(world(folder, spec, plain=(80, 8080)))
        made.members.parent.mkdir(parents=True)
        made.members.write_text(f"{ANNA} 3128\n{BERT} open\n")
        assert made.load().returncode == 0
        stack.enter_context(made.internet.serving([443, 8443], tls=certificate))
        table = [f"{name}={addresses}" for name, addresses in _NAMES.items()]
        server = str(Path(__file__).parent / "names.py")
        stack.enter_context(made.internet.running(sys.executable, server, *table, until="serving"))
        unbound = ("unbound", "-d", "-p", "-c", str(folder / "unbound.conf"))
        stack.enter_context(made.host.running(*unbound, until="start of service", user=_RESOLVER_USER))
        squid = ("squid", "--foreground", "-d", "1", "-f", str(folder / "squid.conf"))
        stack.enter_context(made.host.running(*squid, until=f"local={GATEWAY}:3128", user=FETCHER))
        yield made


def self_signed(path: Path) -> Path:
    """A certificate and its key in one file, which everybody may read."""
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    subprocess.run([*make, "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    with path.open("a") as file:
        file.write(Path(f"{path}.crt").read_text())
    path.chmod(0o644)
    return path


def fetch(who: Namespace, url: str, proxy: str = _STANDARD, *options: str) -> str:
    """What is answered under the URL: the greeting, a status of the proxy's, or empty where nothing is."""
    command = ["curl", "--silent", "--insecure", "--http0.9", "--max-time", "5", "--proxy", proxy, *options]
    done = who.run(*command, "--write-out", "%{http_code}", url, check=False)
    return "greeted" if "hello" in done.stdout else done.stdout[-3:] if done.returncode == 0 else ""


def ask(who: Namespace, name: str, kind: int = 1) -> list[str] | None:
    """The addresses of a name (1: A, 28: AAAA); None where nobody answers."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)
    done = who.run(sys.executable, "-c", _ASK, GATEWAY, question.hex(), check=False)
    if done.returncode != 0:
        return None
    answer = bytes.fromhex(done.stdout)
    (count,) = struct.unpack("!H", answer[6:8])
    size, family = (4, socket.AF_INET) if kind == 1 else (16, socket.AF_INET6)
    records = [answer[len(question) + (12 + size) * index :][: 12 + size] for index in range(count)]
    return [socket.inet_ntop(family, record[12:]) for record in records]


_ASK = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
    asker.settimeout(3)
    asker.connect((sys.argv[1], 53))
    asker.send(bytes.fromhex(sys.argv[2]))
    print(asker.recv(4096).hex())
"""


@pytest.mark.parametrize("name", ["ok.example.org", "deep.wide.example.org"])
def test_listed_names_are_reached(named: World, name: str) -> None:
    assert fetch(named.anna, f"https://{name}/") == "greeted"


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example.org/",
        "https://large.example.org/",
        "https://wide.example.org.other.example.org/",
        f"https://{PUBLIC}/",
        f"https://{METADATA}/",
        f"https://{GATEWAY}/",
        "https://localhost/",
        "https://ok.example.org:8443/",
        "http://ok.example.org/",
        "http://ok.example.org:8080/",
    ],
)
def test_other_names_addresses_and_ports_are_refused(named: World, url: str) -> None:
    named.watch()
    assert fetch(named.anna, url) == "403"
    assert [one for one in named.landed() if one[2] != 53] == []


@pytest.mark.parametrize("name", ["rebound.example.org", "half.example.org", "here.example.org", "six.example.org"])
def test_a_listed_name_that_leads_inside_leads_nowhere(named: World, name: str) -> None:
    named.watch()
    fetch(named.anna, f"https://{name}/")
    assert {one[0] for one in named.landed()} <= {PUBLIC}


def test_who_asks_for_one_name_and_says_another_is_cut_off(named: World) -> None:
    other = ["--connect-to", "other.example.org:443:ok.example.org:443"]
    assert fetch(named.anna, "https://other.example.org/", _STANDARD, *other) == ""
    # Who says no name at all gets to the one that the proxy was asked for, which is listed.
    nameless = ["--connect-to", f"{PUBLIC}:443:ok.example.org:443"]
    assert fetch(named.anna, f"https://{PUBLIC}/", _STANDARD, *nameless) == "greeted"
    plain = ["--connect-to", "ok.example.org:80:ok.example.org:443", "--proxytunnel"]
    assert fetch(named.anna, "http://ok.example.org/", _STANDARD, *plain) != "greeted"


def test_the_list_of_another_plan_is_out_of_reach(named: World) -> None:
    assert fetch(named.anna, "https://large.example.org/", _LARGE) == ""
    named.nft("add", "element", "inet", "zaki", "egress_list", "{", ANNA, ".", "3129", "}")
    assert fetch(named.anna, "https://large.example.org/", _LARGE) == "greeted"
    named.nft("delete", "element", "inet", "zaki", "egress_list", "{", ANNA, ".", "3129", "}")


def test_the_host_itself_is_no_client_of_the_proxy(named: World) -> None:
    assert fetch(named.internet, "https://ok.example.org/", f"http://{GATEWAY}:3128") in ("", "403")


def test_names_lead_to_public_addresses_only(named: World) -> None:
    assert ask(named.bert, "ok.example.org") == [PUBLIC]
    assert ask(named.bert, "rebound.example.org") == []
    assert ask(named.bert, "here.example.org") == []
    assert ask(named.bert, "half.example.org") == [PUBLIC]
    assert ask(named.bert, "ok.example.org", 28) == []
    assert ask(named.bert, "nobody.example.org") == []


def test_under_list_and_none_no_outside_name_resolves(named: World) -> None:
    named.watch()
    assert ask(named.anna, "ok.example.org") is None
    named.nft("delete", "element", "inet", "zaki", "egress_open", "{", BERT, "}")
    assert ask(named.bert, "ok.example.org") is None
    assert named.internet.landed() == set()
    named.nft("add", "element", "inet", "zaki", "egress_open", "{", BERT, "}")
