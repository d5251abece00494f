"""Specifications: what is accepted, what is refused and how it is said, and the way through the configuration."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.spec import MEMORY_FLOOR_MIB, RESERVED_LABELS, HostSpec, InstanceSpec, SpecError, is_digest, is_instance_id

IMAGE = "sha256:" + "0123456789abcdef" * 4
LOWER = string.ascii_lowercase + string.digits


class Configuration:
    """Values as Pulumi hands them to a program: without the project's name, all texts."""

    def __init__(self, values: Mapping[str, str]) -> None:
        assert all(key.startswith("zaki:") for key in values)
        self._values = {key.removeprefix("zaki:"): value for key, value in values.items()}

    def get(self, key: str) -> str | None:
        return self._values.get(key)


def instance(**changes: Any) -> InstanceSpec:
    values: dict[str, Any] = {
        "id": "u-0123456789",
        "address": IPv4Address("10.86.0.2"),
        "network": "zaki0",
        "image": IMAGE,
    }
    return InstanceSpec(**{**values, **changes})


def host(**changes: Any) -> HostSpec:
    values: dict[str, Any] = {"image": "zaki/openclaw:2026.9.6", "host_file": "/etc/zaki/host.json"}
    return HostSpec(**{**values, **changes})


def words(first: str, rest: str, most: int) -> st.SearchStrategy[str]:
    return st.builds(str.__add__, st.sampled_from(first), st.text(rest, max_size=most - 1))


digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:".__add__)
images = digests | st.builds(
    "{}@{}".format, st.sampled_from(["ghcr.io/openclaw/openclaw", "localhost:5000/x"]), digests
)
labels = st.dictionaries(
    words(string.ascii_lowercase, LOWER + ".-_", 20).filter(lambda key: key not in RESERVED_LABELS),
    st.text([chr(code) for code in range(32, 127)], max_size=40),
    max_size=4,
)


@st.composite
def instances(draw: st.DrawFn) -> InstanceSpec:
    memory = draw(st.integers(MEMORY_FLOOR_MIB, 1 << 20))
    return InstanceSpec(
        id="u-" + draw(st.text(LOWER, min_size=10, max_size=10)),
        address=IPv4Address(draw(st.integers(int(IPv4Address("10.0.0.1")), int(IPv4Address("10.255.255.254"))))),
        network=draw(words(string.ascii_lowercase, LOWER + "-", 20)),
        image=draw(images),
        memory_mib=memory,
        swap_mib=draw(st.integers(2 * memory, 2 << 20)),
        cpus=f"{draw(st.integers(0, 999))}.{draw(st.integers(1, 9))}",
        pids=draw(st.integers(64, 32768)),
        runtime=draw(st.sampled_from(["runc", "runsc", "crun"])),
        plan=draw(words(string.ascii_lowercase, LOWER + "-", 20)),
        labels=draw(labels),
    )


@st.composite
def hosts(draw: st.DrawFn) -> HostSpec:
    prefix = draw(st.integers(8, 24))
    number = draw(st.integers(0, (1 << 24) - 1)) | int(IPv4Address("10.0.0.0"))
    return HostSpec(
        image=draw(images | st.just("zaki/openclaw:2026.9.6")),
        host_file=draw(st.sampled_from(["/etc/zaki/host.json", "~/state/host.json", "/with a space/ünï"])),
        network=draw(words(string.ascii_lowercase, LOWER + "-", 20)),
        bridge=draw(words(string.ascii_lowercase, LOWER + "-", 15)),
        subnet=IPv4Network((number, prefix), strict=False),
        runtime=draw(st.sampled_from(["runc", "runsc"])),
        host_swap_mib=draw(st.none() | st.integers(0, 1 << 24)),
    )


@given(instances())
def test_instance_survives_the_configuration(spec: InstanceSpec) -> None:
    assert InstanceSpec.from_config(Configuration(spec.to_config())) == spec


@given(hosts())
def test_host_survives_the_configuration(spec: HostSpec) -> None:
    assert HostSpec.from_config(Configuration(spec.to_config())) == spec


@given(hosts())
def test_docker_and_the_gateway_never_share_addresses(spec: HostSpec) -> None:
    assert spec.docker_part.subnet_of(spec.subnet)
    assert spec.gateway in spec.subnet
    assert spec.gateway not in spec.docker_part
    # Most of the subnet is left for instances.
    assert spec.docker_part.num_addresses * 8 <= spec.subnet.num_addresses


def test_what_has_a_default_may_be_left_out() -> None:
    spec = instance()
    needed = {
        key: value
        for key, value in spec.to_config().items()
        if key.split(":")[1] in ("id", "address", "network", "image")
    }
    assert InstanceSpec.from_config(Configuration(needed)) == spec
    assert HostSpec.from_config(Configuration({"zaki:image": "a:1", "zaki:host_file": "/h"})).to_config() == {
        "zaki:image": "a:1",
        "zaki:host_file": "/h",
        "zaki:network": "zaki0",
        "zaki:bridge": "zaki0",
        "zaki:subnet": "10.86.0.0/16",
        "zaki:docker_range": "10.86.255.0/24",
        "zaki:runtime": "runc",
        "zaki:host_swap_mib": "auto",
    }


@pytest.mark.parametrize("key", ["id", "address", "network", "image"])
def test_missing_value_is_named(key: str) -> None:
    config = instance().to_config()
    del config[f"zaki:{key}"]
    with pytest.raises(SpecError, match=f"zaki:{key} is unset"):
        InstanceSpec.from_config(Configuration(config))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"id": "u-SHOUTING90"}, "id is 'u-SHOUTING90'"),
        ({"id": "u-0123456789\n"}, "id is"),
        ({"id": "u-0123456789/../x"}, "id is"),
        ({"image": "zaki/openclaw:latest"}, "sha256"),
        ({"image": "sha256:abc"}, "image is"),
        ({"image": IMAGE + "\n"}, "image is"),
        ({"network": "--privileged"}, "network is"),
        ({"memory_mib": MEMORY_FLOOR_MIB - 1}, "at least 1280"),
        ({"memory_mib": -1}, "at least 1280"),
        ({"memory_mib": 4096, "swap_mib": 6144}, "at least twice memory_mib"),
        ({"swap_mib": -1}, "at least twice memory_mib"),
        ({"cpus": "2"}, r'for example "2\.0"'),
        ({"cpus": "1.50"}, "cpus is"),
        ({"cpus": "0.0"}, r"at least 0\.1"),
        ({"cpus": "-1.0"}, "cpus is"),
        ({"pids": 0}, "from 64 to 32768"),
        ({"pids": 1 << 20}, "from 64 to 32768"),
        ({"runtime": "/bin/sh"}, "runtime is"),
        ({"plan": "no plan"}, "plan is"),
        ({"address": IPv4Address("8.8.8.8")}, "private address"),
        ({"address": IPv4Address("127.0.0.1")}, "private address"),
        ({"address": IPv4Address("169.254.169.254")}, "private address"),
        ({"labels": {"zaki.instance": "u-9999999999"}}, "which Zaki sets itself"),
        ({"labels": {"Key": "x"}}, "labels is 'Key'"),
        ({"labels": {"key": "two\nlines"}}, r"labels\.key is"),
    ],
)
def test_instance_is_refused_with_a_sentence(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint) as refused:
        instance(**changes)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"subnet": IPv4Network("8.8.0.0/16")}, "private IPv4 network"),
        ({"subnet": IPv4Network("10.0.0.0/28")}, "of /8 to /24"),
        ({"docker_range": IPv4Network("10.9.0.0/24")}, "part of the subnet"),
        ({"docker_range": IPv4Network("10.86.0.0/24")}, "must leave the gateway"),
        ({"bridge": "sixteen-letters0"}, "device's name"),
        ({"bridge": "eth0; reboot"}, "device's name"),
        ({"host_file": "host.json"}, "absolute path"),
        ({"host_file": "/x\n"}, "absolute path"),
        ({"image": "$(reboot)"}, "image is"),
        ({"runtime": ""}, "runtime is"),
        ({"host_swap_mib": -1}, "host_swap_mib is -1"),
        ({"host_swap_mib": 1 << 25}, "or auto"),
    ],
)
def test_host_is_refused_with_a_sentence(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint) as refused:
        host(**changes)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("address", "10.86.0.999", "give an IPv4 address"),
        ("memory_mib", "2048.5", "give a whole number"),
        ("pids", "-1", "give a whole number"),
        ("labels", "[]", "give a JSON object of texts"),
        ("labels", '{"a": 1}', "give a JSON object of texts"),
        ("labels", "{", "give a JSON object of texts"),
    ],
)
def test_value_of_another_type_is_named(key: str, value: str, complaint: str) -> None:
    with pytest.raises(SpecError, match=f"zaki:{key} is .*{complaint}"):
        InstanceSpec.from_config(Configuration({**instance().to_config(), f"zaki:{key}": value}))


def test_specifications_cannot_be_changed() -> None:
    spec = instance(labels={"a": "b"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.memory_mib = 1 << 20  # type: ignore[misc]
    with pytest.raises(TypeError):
        spec.labels["c"] = "d"  # type: ignore[index]


@pytest.mark.parametrize("text", ["u-0123456789", "u-abcdefghij"])
def test_ids(text: str) -> None:
    assert is_instance_id(text)


@pytest.mark.parametrize("text", ["", "u-", "u-012345678", "u-01234567890", "U-0123456789", "u-012345678\n", "dev"])
def test_no_ids(text: str) -> None:
    assert not is_instance_id(text)


@pytest.mark.parametrize("text", [IMAGE, "ghcr.io/openclaw/openclaw@" + IMAGE])
def test_digests(text: str) -> None:
    assert is_digest(text)


@pytest.mark.parametrize("text", ["", "zaki/openclaw:1", IMAGE[:-1], "a@b@" + IMAGE, IMAGE.upper()])
def test_no_digests(text: str) -> None:
    assert not is_digest(text)
