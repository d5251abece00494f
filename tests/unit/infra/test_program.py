"""What the program declares, as the engine gets it."""

from __future__ import annotations

import dataclasses
import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml  # type: ignore[import-untyped]

from bot.hostfacts import HostFacts
from bot.toolchain import read_pins
from infra.program import main
from infra.spec import HostSpec, InstanceSpec

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

PROJECT = Path(__file__).parents[3]
IMAGE = "sha256:" + "b" * 64
INSTANCE = InstanceSpec(
    id="u-0123456789", address=IPv4Address("10.86.0.7"), network="zaki0", image=IMAGE, labels={"zaki.pool": "1"}
)
HOST = HostSpec(image="zaki/openclaw:1", host_file="/var/lib/zaki/host.json", host_swap_mib=0)


def test_person_gets_a_hardened_container(declare: Any) -> None:
    declared = declare(INSTANCE.id, main, INSTANCE.to_config())
    container = declared.inputs("Container")
    assert container["name"] == INSTANCE.id
    assert container["capabilities"] == {"drops": ["ALL"]}
    assert container["securityOpts"] == ["no-new-privileges"]
    assert container["readOnly"] is True
    assert container["user"] == "1000:1000"
    assert container["init"] is True
    assert (container["memory"], container["memorySwap"], container["cpus"]) == (2048, 6144, "2.0")
    assert container["networksAdvanced"] == [{"name": "zaki0", "ipv4Address": "10.86.0.7"}]
    assert "networkMode" not in container
    assert "ports" not in container
    assert list(container["tmpfs"]) == ["/tmp"]  # noqa: S108
    assert container["volumes"] == [{"volumeName": INSTANCE.id, "containerPath": "/home/node"}]


def test_pulumi_never_starts_a_container(declare: Any) -> None:
    container = declare(INSTANCE.id, main, INSTANCE.to_config()).inputs("Container")
    assert (container["start"], container["mustRun"], container["restart"]) == (False, False, "no")


def test_container_carries_its_owner_and_limits_as_labels(declare: Any) -> None:
    container = declare(INSTANCE.id, main, INSTANCE.to_config()).inputs("Container")
    labels = {label["label"]: label["value"] for label in container["labels"]}
    assert labels == {
        "zaki.instance": INSTANCE.id,
        "zaki.stack": INSTANCE.id,
        "zaki.plan": "standard",
        "zaki.pids": "512",
        "zaki.pool": "1",
    }


def test_labels_of_a_volume_do_not_depend_on_the_plan(declare: Any) -> None:
    volume = declare(INSTANCE.id, main, INSTANCE.to_config()).inputs("Volume")
    assert {label["label"] for label in volume["labels"]} == {"zaki.instance", "zaki.stack", "zaki.network"}


def test_host_declares_a_bridge_without_traffic_between_instances(declare: Any) -> None:
    network = declare("dev", main, HOST.to_config()).inputs("Network")
    assert network["driver"] == "bridge"
    assert network["options"] == {
        "com.docker.network.bridge.name": "zaki0",
        "com.docker.network.bridge.enable_icc": "false",
    }
    assert network["ipamConfigs"] == [{"subnet": "10.86.0.0/16", "gateway": "10.86.0.1", "ipRange": "10.86.255.0/24"}]


def test_services_can_read_what_the_host_tells(declare: Any, tmp_path: Path) -> None:
    command = declare("dev", main, HOST.to_config()).inputs("Command")
    written = tmp_path / "host.json"
    written.write_text(command["stdin"])
    assert HostFacts.read(written) == HostFacts(
        network="zaki0",
        bridge="zaki0",
        subnet=IPv4Network("10.86.0.0/16"),
        gateway=IPv4Address("10.86.0.1"),
        docker_range=IPv4Network("10.86.255.0/24"),
        image="sha256:" + "a" * 64,
        runtime="runc",
    )


def test_local_tag_is_told_by_its_content_and_never_pulled(declare: Any) -> None:
    declared = declare("dev", main, HOST.to_config())
    assert not [args for args in declared.declared if args.typ.endswith("RemoteImage")]
    assert json.loads(declared.inputs("Command")["stdin"])["image"].startswith("sha256:")


def test_digest_of_a_registry_is_pulled_and_kept(declare: Any) -> None:
    reference = "registry.invalid/openclaw@" + IMAGE
    declared = declare(
        "vm", main, HostSpec(image=reference, host_file="/etc/zaki/host.json", host_swap_mib=0).to_config()
    )
    assert declared.inputs("RemoteImage")["keepLocally"] is True
    assert json.loads(declared.inputs("Command")["stdin"])["image"] == reference


@pytest.mark.parametrize(("wanted", "size"), [(None, ""), (65536, "65536")], ids=["as the machine lets", "a size"])
def test_host_brings_swap_and_takes_it_away_again(declare: Any, wanted: int | None, size: str) -> None:
    declared = declare("vm", main, dataclasses.replace(HOST, host_swap_mib=wanted).to_config())
    [swap] = [args.inputs for args in declared.declared if args.name == "swap"]
    assert swap["environment"] == {"ZAKI_SWAP_MIB": size}
    assert "keep $ZAKI_SWAP_MIB" in swap["create"]
    assert '"$script" down' in swap["delete"]
    assert swap["stdin"] == (PROJECT / "scripts/swap").read_text()


def test_host_that_leaves_swap_alone_declares_none(declare: Any) -> None:
    assert "swap" not in [args.name for args in declare("vm", main, HOST.to_config()).declared]


def test_stack_of_another_id_is_refused(declare: Any) -> None:
    with pytest.raises(pulumi.RunError, match=r"zaki:id is u-0123456789; set it to u-9999999999"):
        declare("u-9999999999", main, INSTANCE.to_config())


def test_bad_configuration_is_one_sentence_before_anything_is_declared(declare: Any) -> None:
    config = {**INSTANCE.to_config(), "zaki:memory_mib": "lots"}
    with pytest.raises(pulumi.RunError, match=r"zaki:memory_mib is 'lots'; give a whole number\."):
        declare(INSTANCE.id, main, config)


def test_name_that_only_looks_like_a_persons_is_no_host(declare: Any) -> None:
    with pytest.raises(pulumi.RunError, match="zaki:id is unset"):
        declare("u-tooshort", main, HOST.to_config())


def test_project_files_agree_with_the_program_and_the_pins() -> None:
    project = yaml.safe_load((PROJECT / "Pulumi.yaml").read_text())
    assert (project["name"], project["main"], project["runtime"]) == ("zaki", "infra", "python")
    config = yaml.safe_load((PROJECT / "Pulumi.dev.yaml").read_text())["config"]
    spec = HostSpec(image=read_pins()["IMAGE_TAG"], host_file="~/.local/state/zaki/host.json")
    assert config == spec.to_config()
