"""What the firewall, the proxy, the resolver and UFW are rendered to."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.firewall import FirewallSpec, firewall_files, render_bridge_table, render_loader, render_table
from infra.proxy import ProxySpec, render_squid, without_covered
from infra.refused import REFUSED, refused_but
from infra.resolver import ResolverSpec, render_unbound
from infra.spec import HostSpec
from infra.ufw import UfwSpec, render_program, render_rules

HOST = HostSpec(
    image="zaki/openclaw:1",
    host_file="/etc/zaki/host.json",
    bridge="zk1",
    subnet=IPv4Network("10.90.0.0/20"),
    firewall=True,
    egress_lists={"standard": ("api.example.org",), "large": (".example.org", "example.net")},
    forwarders=(IPv4Address("10.0.0.2"),),
)


def test_the_table_depends_on_the_host_alone() -> None:
    table = render_table(FirewallSpec.of(HOST))
    assert 'iifname != "zk1" goto from_outside' in table
    assert "ip saddr != 10.90.0.0/20 drop" in table
    assert "ip daddr 10.90.0.1 tcp dport 8081 accept" in table
    assert "ip daddr 10.90.0.1 tcp dport { 3128, 3129 } ip saddr . tcp dport @egress_list accept" in table
    assert "ip daddr { 10.90.0.1, 10.0.0.2 } meta l4proto { tcp, udp } th dport 53 accept" in table
    assert "zaki0" not in table + render_bridge_table(FirewallSpec.of(HOST))


def test_without_lists_no_port_of_a_proxy_is_open() -> None:
    table = render_table(FirewallSpec.of(dataclasses.replace(HOST, egress_lists={})))
    assert "3128" not in table
    assert "tcp dport 8081 accept" in table


def test_a_table_is_replaced_in_one_piece() -> None:
    for table, name in ((render_table(FirewallSpec.of(HOST)), "inet zaki"), (_bridge(), "bridge zaki")):
        assert table.splitlines()[:3] == [f"add table {name}", f"delete table {name}", f"table {name} {{"]


def test_every_range_that_is_not_the_internet_is_refused() -> None:
    table = render_table(FirewallSpec.of(HOST))
    [forward] = re.findall(r"chain forward \{.*?\n  \}", table, re.S)
    assert all(str(network) in forward for network in REFUSED)
    # All that Python's own registry says of addresses.
    for address in (
        "10.1.2.3",
        "100.64.0.1",
        "169.254.169.254",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ):
        assert any(IPv4Address(address) in network for network in REFUSED)


@given(st.ip_addresses(v=4))
def test_what_python_calls_private_or_reserved_is_refused(address: IPv4Address) -> None:
    if address.is_private or address.is_reserved or address.is_multicast or address.is_link_local:
        assert any(address in network for network in REFUSED)


@given(st.lists(st.sampled_from(["10.0.0.2", "127.0.0.53", "169.254.169.253", "8.8.8.8"]).map(IPv4Address)))
def test_only_the_exempt_are_taken_out_of_what_is_refused(exempt: list[IPv4Address]) -> None:
    left = refused_but(exempt)
    assert not any(address in network for address in exempt for network in left)
    taken = {address for address in exempt if any(address in network for network in REFUSED)}
    assert sum(map(_size, left)) == sum(map(_size, REFUSED)) - len(taken)


def test_scripts_are_bash() -> None:
    for script in (render_loader(FirewallSpec.of(HOST)), render_program(UfwSpec.of(HOST))):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_docker_waits_for_the_firewall_and_stopping_it_opens_nothing() -> None:
    files = {path: str(file.content) for path, file in firewall_files(FirewallSpec.of(HOST)).items()}
    unit = files["/etc/systemd/system/zaki-firewall.service"]
    docker = files["/etc/systemd/system/docker.service.d/zaki-firewall.conf"]
    assert "Before=network-pre.target docker.service" in unit
    assert "ExecStop=" not in unit
    assert "Requires=zaki-firewall.service" in docker
    assert "After=zaki-firewall.service" in docker


def test_each_plan_has_a_port_of_its_own_at_the_proxy() -> None:
    lines = render_squid(ProxySpec.of(HOST)).splitlines()
    assert HOST.proxy_ports == {"large": 3128, "standard": 3129}
    assert [line.split()[1] for line in lines if line.startswith("http_port")] == ["10.90.0.1:3128", "10.90.0.1:3129"]
    assert "acl named0 dstdomain -n .example.org example.net" in lines
    assert "acl named1 dstdomain -n api.example.org" in lines
    assert lines.index("http_access deny refused") < lines.index("http_access allow at0 named0")
    assert lines.index("http_access allow at1 named1") < lines.index("http_access deny all")
    assert [line for line in lines if line.startswith("ssl_bump")] == [
        "ssl_bump peek first_step",
        "ssl_bump splice at0 asked0",
        "ssl_bump splice at1 asked1",
        "ssl_bump terminate all",
    ]


@pytest.mark.parametrize(
    ("names", "left"),
    [
        ([".a.org", "a.org", "b.a.org", ".c.a.org"], [".a.org"]),
        (["a.org", "b.a.org"], ["a.org", "b.a.org"]),
        (["xa.org", ".a.org"], [".a.org", "xa.org"]),
        (["a.org", "a.org"], ["a.org"]),
    ],
)
def test_names_that_another_one_covers_are_left_out(names: list[str], left: list[str]) -> None:
    assert without_covered(names) == left


def test_the_resolver_answers_the_bridge_and_asks_whom_it_was_given() -> None:
    lines = [line.strip() for line in render_unbound(ResolverSpec.of(HOST)).splitlines()]
    assert "interface: 10.90.0.1" in lines
    assert "access-control: 10.90.0.0/20 allow" in lines
    assert all(f"private-address: {network}" in lines for network in REFUSED)
    assert lines[-3:] == ["forward-zone:", 'name: "."', "forward-addr: 10.0.0.2"]
    asked = [IPv4Network(line.split()[1]) for line in lines if line.startswith("do-not-query-address")]
    assert not any(IPv4Address("10.0.0.2") in network for network in asked)
    assert any(IPv4Address("10.0.0.3") in network for network in asked)
    assert "forward-zone:" not in render_unbound(ResolverSpec.of(dataclasses.replace(HOST, forwarders=())))


def test_ssh_is_let_in_before_anything_is_denied() -> None:
    rules = render_rules(UfwSpec.of(HOST, http=True))
    assert rules == [
        "allow 443/tcp",
        "allow 80/tcp",
        "allow in on zk1 to 10.90.0.1 port 8081 proto tcp",
        "allow in on zk1 to 10.90.0.1 port 3128 proto tcp",
        "allow in on zk1 to 10.90.0.1 port 3129 proto tcp",
        "allow in on zk1 to 10.90.0.1 port 53",
        "route allow in on zk1",
    ]
    program = render_program(UfwSpec.of(HOST))
    [apply] = re.findall(r"  apply\).*?;;", program, re.S)
    assert program.index("sshd -T") < program.index("allow 443/tcp")
    assert apply.index("ufw $rule") < apply.index("ufw default deny") < apply.index("ufw --force enable")


def _bridge() -> str:
    return render_bridge_table(FirewallSpec.of(HOST))


def _size(network: IPv4Network) -> int:
    return network.num_addresses
