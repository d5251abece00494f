"""Stacks for real: the engine, Docker, plain `pulumi` beside the service, and everything killed in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pulumi_docker
import pytest
from pulumi import automation

from bot.credentials import load_key
from bot.provisioner.containers import ContainerError
from bot.provisioner.stackfolder import StackFolder
from bot.provisioner.stacks import StackBusy, StackFailed, StackManager, StackTimeout
from infra import checks
from infra.spec import HostSpec, InstanceSpec

PROJECT = Path(__file__).parents[2]


def _folder(tmp_path: Path, spec: InstanceSpec) -> StackFolder:
    return StackFolder(tmp_path / "state" / "stacks" / spec.id, spec.id)


def _by_hand(environment: dict[str, str], *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["pulumi", "--non-interactive", *arguments],
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def _put(docker: Any, spec: InstanceSpec, tmp_path: Path, text: str) -> None:
    (tmp_path / "note").write_text(text)
    docker("cp", str(tmp_path / "note"), f"{spec.id}:/home/node/note")


def _get(docker: Any, spec: InstanceSpec, tmp_path: Path) -> str:
    docker("cp", f"{spec.id}:/home/node/note", str(tmp_path / "got"))
    return (tmp_path / "got").read_text()


async def test_container_is_as_it_was_specified(stacks: StackManager, specify: Any, docker: Any) -> None:
    spec = specify()
    outputs = await stacks.up(spec)
    found = docker.inspect("container", spec.id)
    assert found["Id"] == outputs.container
    assert found["Image"] == spec.image
    assert found["State"]["Status"] == "created"
    assert found["Config"]["User"] == "1000:1000"
    assert "OPENCLAW_CONFIG_PATH=/home/node/.openclaw/openclaw.json" in found["Config"]["Env"]
    labels = found["Config"]["Labels"]
    assert (labels["zaki.instance"], labels["zaki.plan"], labels["zaki.pids"]) == (spec.id, "standard", "512")
    host = found["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["ReadonlyRootfs"]
    assert host["Init"]
    assert list(host["Tmpfs"]) == ["/tmp"]  # noqa: S108
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (2048 << 20, 6144 << 20, 2_000_000_000)
    assert host["RestartPolicy"]["Name"] == "no"
    assert not host["PortBindings"]
    assert host["LogConfig"] == {"Type": "local", "Config": {"max-file": "3", "max-size": "10m"}}
    assert [(mount["Type"], mount["Name"], mount["Destination"]) for mount in found["Mounts"]] == [
        ("volume", spec.id, "/home/node")
    ]
    [(network, attached)] = found["NetworkSettings"]["Networks"].items()
    assert network == spec.network
    assert attached["IPAMConfig"]["IPv4Address"] == str(spec.address)


@pytest.mark.parametrize("then", [[], ["start"], ["start", "pause"], ["start", "kill"]])
async def test_second_up_does_nothing_whatever_the_container_does(
    stacks: StackManager, specify: Any, docker: Any, then: list[str]
) -> None:
    spec = specify()
    first = await stacks.up(spec)
    assert first.changed
    for command in then:
        docker(command, spec.id)
    before = docker.inspect("container", spec.id)
    second = await stacks.up(spec)
    assert not second.changed
    assert second.container == first.container
    after = docker.inspect("container", spec.id)
    assert after["State"] == before["State"]
    assert after["HostConfig"] == before["HostConfig"]


async def test_address_survives_stop_and_start(stacks: StackManager, specify: Any, docker: Any) -> None:
    spec = specify()
    await stacks.up(spec)
    for command in ("start", "kill", "start"):
        docker(command, spec.id)
    await stacks.up(spec)
    [attached] = docker.inspect("container", spec.id)["NetworkSettings"]["Networks"].values()
    assert attached["IPAddress"] == str(spec.address)


@pytest.mark.parametrize("state", ["running", "paused"])
async def test_memory_changes_in_place(stacks: StackManager, specify: Any, docker: Any, state: str) -> None:
    spec = specify()
    first = await stacks.up(spec)
    docker("start", spec.id)
    if state == "paused":
        docker("pause", spec.id)
    second = await stacks.up(replace(spec, memory_mib=1536, swap_mib=4096))
    assert second.changed
    assert second.container == first.container
    found = docker.inspect("container", spec.id)
    assert (found["HostConfig"]["Memory"], found["HostConfig"]["MemorySwap"]) == (1536 << 20, 4096 << 20)
    assert found["State"]["Status"] == state
    assert not (await stacks.up(replace(spec, memory_mib=1536, swap_mib=4096))).changed


async def test_data_outlives_the_container(stacks: StackManager, specify: Any, docker: Any, tmp_path: Path) -> None:
    spec = specify()
    first = await stacks.up(spec)
    _put(docker, spec, tmp_path, "mine")
    docker("start", spec.id)
    second = await stacks.up(replace(spec, cpus="1.5", pids=300, plan="small", labels={"zaki.pool": "1"}))
    assert second.container != first.container
    assert docker.inspect("container", spec.id)["HostConfig"]["NanoCpus"] == 1_500_000_000
    assert _get(docker, spec, tmp_path) == "mine"


async def test_plain_pulumi_and_the_service_agree(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path
) -> None:
    spec = specify()
    first = await stacks.up(spec)
    folder, environment = _folder(tmp_path, spec), stacks.environment(spec.id)
    before = folder.settings.read_text()
    command = stacks.command_line(spec.id).split()
    preview = _by_hand(environment, *command[1:], "--expect-no-changes")
    assert preview.returncode == 0, preview.stdout + preview.stderr
    assert "4 unchanged" in preview.stdout

    changed = replace(spec, memory_mib=3072, swap_mib=6144)
    folder.prepare(changed.to_config())
    up = _by_hand(environment, "-C", str(folder.path), "up", "--yes", "-s", spec.id)
    assert up.returncode == 0, up.stdout + up.stderr
    assert docker.inspect("container", spec.id)["HostConfig"]["Memory"] == 3072 << 20
    assert not (await stacks.preview(changed)).changed
    again = await stacks.up(changed)
    assert not again.changed
    assert again.container == first.container
    assert folder.settings.read_text() == before.replace("'2048'", "'3072'")


async def test_preview_says_what_would_be_done_and_does_nothing(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path
) -> None:
    spec = specify()
    folder = _folder(tmp_path, spec)
    preview = await stacks.preview(spec)
    assert preview.changes == {"create": 4}
    assert not folder.path.exists()
    assert docker.inspect("volume", spec.id) is None

    await stacks.up(spec)
    files = {path: path.read_bytes() for path in folder.path.glob("*") if path.is_file()}
    preview = await stacks.preview(replace(spec, memory_mib=4096, swap_mib=8192))
    assert preview.changes == {"same": 3, "update": 1}
    assert "memory" in preview.text
    assert {path: path.read_bytes() for path in folder.path.glob("*") if path.is_file()} == files
    assert not (await stacks.preview(spec)).changed


@pytest.mark.parametrize("state", ["created", "running", "paused", "removed"])
async def test_destroy_leaves_nothing(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path, state: str
) -> None:
    spec = specify()
    await stacks.up(spec)
    for command in {"created": [], "removed": ["rm"], "running": ["start"], "paused": ["start", "pause"]}[state]:
        docker(command, spec.id)
    await stacks.destroy(spec.id)
    assert docker.inspect("container", spec.id) is None
    assert docker.inspect("volume", spec.id) is None
    assert not (tmp_path / "state" / "stacks" / spec.id).exists()
    await stacks.destroy(spec.id)


async def test_destroy_by_hand_does_not_take_the_data(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path
) -> None:
    spec = specify()
    await stacks.up(spec)
    folder = _folder(tmp_path, spec)
    for skip in ([], ["--skip-preview"]):
        done = _by_hand(stacks.environment(spec.id), "-C", str(folder.path), "destroy", "--yes", *skip)
        assert done.returncode != 0
        assert docker.inspect("volume", spec.id) is not None


@pytest.mark.parametrize("moment", ["creating the volume", "creating the container"])
async def test_engine_killed_in_the_middle_of_a_first_up(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path, moment: str
) -> None:
    spec = specify()
    folder = _folder(tmp_path, spec)
    killed: list[int] = []

    def kill(said: str) -> None:
        if said == moment:
            killed.extend(lock.pid for lock in folder.locks().values())
            os.kill(killed[0], signal.SIGKILL)

    # It may have been done just before.
    with contextlib.suppress(StackFailed):
        await stacks.up(spec, kill)
    assert killed
    outputs = await stacks.up(spec)
    assert docker.inspect("container", spec.id)["Id"] == outputs.container
    assert not folder.locks()
    assert not (await stacks.up(spec)).changed
    assert (await stacks.repair(spec.id)).container == outputs.container


@pytest.mark.parametrize("moment", ["updating the container", "removing the container", "removing the volume"])
async def test_engine_killed_in_the_middle_of_a_change(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path, moment: str
) -> None:
    spec = specify()
    folder = _folder(tmp_path, spec)
    await stacks.up(spec)

    def kill(said: str) -> None:
        if said == moment:
            for lock in folder.locks().values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(lock.pid, signal.SIGKILL)

    larger = replace(spec, memory_mib=3072)
    with contextlib.suppress(StackFailed):
        await (stacks.up(larger, kill) if "updating" in moment else stacks.destroy(spec.id, kill))
    if "updating" in moment:
        outputs = await stacks.up(larger)
        assert docker.inspect("container", spec.id)["Id"] == outputs.container
        assert docker.inspect("container", spec.id)["HostConfig"]["Memory"] == 3072 << 20
        assert not (await stacks.up(larger)).changed
    await stacks.destroy(spec.id)
    assert docker.inspect("container", spec.id) is None
    assert docker.inspect("volume", spec.id) is None
    assert not folder.path.exists()


async def test_service_killed_in_the_middle_of_an_up(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path
) -> None:
    spec = specify()
    program = (
        "import asyncio, sys, json\n"
        "from pathlib import Path\n"
        "from bot.provisioner.containers import Containers\n"
        "from bot.provisioner.stacks import StackManager\n"
        "from bot.toolchain import Toolchain\n"
        "from infra.spec import InstanceSpec\n"
        "class Config(dict): pass\n"
        "async def main():\n"
        "    values = json.loads(sys.argv[2])\n"
        "    spec = InstanceSpec.from_config(Config(values))\n"
        "    async with Containers.connect() as containers:\n"
        "        stacks = StackManager(Toolchain.from_pins(), Path(sys.argv[1]), containers)\n"
        "        await stacks.up(spec, lambda said: print(said, flush=True))\n"
        "asyncio.run(main())\n"
    )
    values = json.dumps({key.removeprefix("zaki:"): value for key, value in spec.to_config().items()})
    service = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "state"), values], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert service.stdout is not None
    with service:
        assert service.stdout.readline().strip() == "creating the volume"
        service.kill()
    outputs = await stacks.up(spec)
    assert docker.inspect("container", spec.id)["Id"] == outputs.container
    assert not (await stacks.up(spec)).changed


async def test_pending_operation_and_orphan_are_repaired(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path
) -> None:
    spec = specify()
    first = await stacks.up(spec)
    _put(docker, spec, tmp_path, "mine")
    path = _folder(tmp_path, spec).path / "backend/.pulumi/stacks/zaki" / f"{spec.id}.json"
    saved = json.loads(path.read_text())
    latest = saved["checkpoint"]["latest"]
    [container] = [found for found in latest["resources"] if found["type"].endswith("Container")]
    latest["resources"].remove(container)
    latest["pending_operations"] = [{"resource": {**container, "id": ""}, "type": "creating"}]
    path.write_text(json.dumps(saved))
    second = await stacks.up(spec)
    assert second.container != first.container
    assert docker.inspect("container", first.container) is None
    assert _folder(tmp_path, spec).record().pending == 0
    assert _get(docker, spec, tmp_path) == "mine"


@pytest.mark.parametrize("damage", ["truncated", "removed", "folder removed"])
async def test_lost_state_is_made_anew_and_the_data_kept(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path, damage: str
) -> None:
    spec = specify()
    await stacks.up(spec)
    _put(docker, spec, tmp_path, "mine")
    folder = _folder(tmp_path, spec)
    path = folder.path / "backend/.pulumi/stacks/zaki" / f"{spec.id}.json"
    if damage == "truncated":
        path.write_text(path.read_text()[:100])
    elif damage == "removed":
        path.unlink()
    else:
        shutil.rmtree(folder.path)
    outputs = await stacks.up(spec)
    assert docker.inspect("container", spec.id)["Id"] == outputs.container
    assert _get(docker, spec, tmp_path) == "mine"
    await stacks.destroy(spec.id)
    assert docker.inspect("volume", spec.id) is None


async def test_destroy_without_any_state_removes_what_is_ours(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path
) -> None:
    spec = specify()
    await stacks.up(spec)
    shutil.rmtree(_folder(tmp_path, spec).path)
    await stacks.destroy(spec.id)
    assert docker.inspect("container", spec.id) is None
    assert docker.inspect("volume", spec.id) is None


async def test_container_of_a_stranger_is_left_alone(stacks: StackManager, specify: Any, docker: Any) -> None:
    spec = specify()
    stranger = docker("create", "--name", spec.id, spec.image)
    with pytest.raises((ContainerError, StackFailed)):
        await stacks.up(spec)
    assert docker.inspect("container", spec.id)["Id"] == stranger


async def test_container_removed_behind_our_back_comes_back(stacks: StackManager, specify: Any, docker: Any) -> None:
    spec = specify()
    first = await stacks.up(spec)
    docker("rm", "-f", spec.id)
    second = await stacks.repair(spec.id)
    assert second.container != first.container
    assert docker.inspect("container", spec.id)["Id"] == second.container


async def test_repair_of_a_stack_that_is_not_there(stacks: StackManager, specify: Any, tmp_path: Path) -> None:
    spec = specify()
    with pytest.raises(StackFailed, match=f"The stack of {spec.id} is not there"):
        await stacks.repair(spec.id)
    assert not _folder(tmp_path, spec).path.exists()


@pytest.fixture
def engine_at_work(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that goes by the engine's name."""
    program = tmp_path / "pulumi"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", program)
    with subprocess.Popen([program, "600"]) as process:
        yield process
        process.kill()


async def test_stack_that_plain_pulumi_works_on_is_busy(
    make_stacks: Any, specify: Any, tmp_path: Path, engine_at_work: subprocess.Popen[bytes]
) -> None:
    spec = specify()
    stacks = make_stacks(patience=0.3)
    await stacks.up(spec)
    lock = _folder(tmp_path, spec).path / "backend/.pulumi/locks/organization/zaki" / spec.id / "some.json"
    lock.write_text(json.dumps({"pid": engine_at_work.pid, "username": "x", "hostname": socket.gethostname()}))
    with pytest.raises(StackBusy, match=f"process {engine_at_work.pid}"):
        await stacks.up(spec)
    engine_at_work.kill()
    engine_at_work.wait()
    assert not (await stacks.up(spec)).changed


async def test_stack_that_another_process_holds_is_busy(make_stacks: Any, specify: Any, tmp_path: Path) -> None:
    spec = specify()
    descriptor = _folder(tmp_path, spec).try_hold()
    assert descriptor is not None
    with pytest.raises(StackBusy, match="another process"):
        await make_stacks(patience=0.2).up(spec)
    waiting = asyncio.create_task(make_stacks(patience=60).up(spec))
    os.close(descriptor)
    assert (await waiting).changed


async def test_engine_out_of_time_is_stopped_and_the_next_up_goes_on(
    make_stacks: Any, specify: Any, docker: Any, tmp_path: Path
) -> None:
    spec = specify()
    await make_stacks().up(spec)
    larger = replace(spec, memory_mib=3072)
    with pytest.raises(StackTimeout, match=f"The stack of {spec.id} was not brought up within 0 seconds"):
        await make_stacks(timeout=0.01).up(larger)
    assert not [lock for lock in _folder(tmp_path, spec).locks().values() if lock.is_held()]
    await make_stacks().up(larger)
    assert docker.inspect("container", spec.id)["HostConfig"]["Memory"] == 3072 << 20


async def test_cancelled_up_has_ended_when_it_is_over(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path
) -> None:
    spec = specify()
    begun = asyncio.Event()
    task = asyncio.create_task(stacks.up(spec, lambda _said: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not [lock for lock in _folder(tmp_path, spec).locks().values() if lock.is_held()]
    outputs = await stacks.up(spec)
    assert docker.inspect("container", spec.id)["Id"] == outputs.container


async def test_closing_stops_what_runs(make_stacks: Any, specify: Any, tmp_path: Path) -> None:
    stacks = make_stacks(concurrency=1)
    begun = asyncio.Event()
    specs = [specify() for _ in range(3)]
    tasks = [asyncio.create_task(stacks.up(spec, lambda _said: begun.set())) for spec in specs]
    await begun.wait()
    await stacks.close()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(answer, StackBusy) for answer in answers[1:])
    assert not [lock for spec in specs for lock in _folder(tmp_path, spec).locks().values() if lock.is_held()]


async def test_many_at_once_and_one_twice(stacks: StackManager, specify: Any, docker: Any) -> None:
    specs = [specify() for _ in range(3)]
    outputs = await asyncio.gather(*(stacks.up(spec) for spec in [*specs, specs[0]]))
    assert outputs[0].container == outputs[3].container
    assert (outputs[0].changed, outputs[3].changed) == (True, False)
    for spec, found in zip(specs, outputs, strict=False):
        assert found.address == str(spec.address)
        assert docker.inspect("container", spec.id)["Id"] == found.container


async def test_what_docker_refuses_is_told_in_a_sentence(stacks: StackManager, specify: Any, docker: Any) -> None:
    missing = "sha256:" + "0" * 64
    spec = specify(image=missing)
    with pytest.raises(
        StackFailed, match=f"^The stack of {spec.id} could not be brought up: .*{missing[:19]}"
    ) as failed:
        await stacks.up(spec)
    assert "\n" not in str(failed.value)
    assert failed.value.details
    repaired = specify(id=spec.id, address=spec.address)
    assert (await stacks.up(repaired)).container == docker.inspect("container", spec.id)["Id"]


async def test_history_does_not_grow(make_stacks: Any, specify: Any, tmp_path: Path) -> None:
    stacks, spec = make_stacks(keep_history=2), specify()
    for number in range(4):
        await stacks.up(replace(spec, memory_mib=2048 + number))
    state = _folder(tmp_path, spec).path / "backend/.pulumi"
    assert len(list((state / "history").rglob("*.history.json"))) == 2
    assert len(list((state / "backups").rglob("*.json"))) <= 2
    assert not (await stacks.up(replace(spec, memory_mib=2051))).changed


async def test_passphrase_is_made_once_and_read_by_its_owner_alone(
    make_stacks: Any, specify: Any, tmp_path: Path
) -> None:
    spec = specify()
    await make_stacks().up(spec)
    path = tmp_path / "state/keys/passphrase"
    before = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert make_stacks().environment(spec.id)["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(path)
    assert path.read_text() == before
    for file in _folder(tmp_path, spec).path.rglob("*"):
        assert not file.is_file() or before.strip() not in file.read_text()


@pytest.mark.parametrize("bad", ["dev", "../../etc", "u-0123456789/..", ""])
async def test_only_instances_have_stacks(stacks: StackManager, bad: str) -> None:
    with pytest.raises(StackFailed, match="is no instance's id"):
        await stacks.destroy(bad)


async def test_what_an_output_hides_is_refused_by_the_engine(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path
) -> None:
    spec = specify()

    def program() -> None:
        checks.register()
        volume = pulumi_docker.Volume(spec.id, name=spec.id)
        # Known only once the volume is there.
        hidden = volume.name.apply(lambda name: [{"hostPath": "/", "containerPath": "/" + name}])
        asked: dict[str, Any] = {
            "name": spec.id,
            "image": spec.image,
            "restart": "no",
            "must_run": False,
            "start": False,
            "networks_advanced": [{"name": spec.network, "ipv4_address": str(spec.address)}],
            "capabilities": {"drops": ["ALL"]},
            "security_opts": ["no-new-privileges"],
            "user": "1000:1000",
            "read_only": True,
            "volumes": hidden,
            "memory": 2048,
            "memory_swap": 6144,
            "cpus": "1.0",
            "labels": [{"label": "zaki.instance", "value": spec.id}, {"label": "zaki.pids", "value": "512"}],
            "log_opts": {"max-size": "10m"},
        }
        pulumi_docker.Container(spec.id, **asked)

    said = await asyncio.to_thread(_refusal, stacks, spec, tmp_path, program)
    assert "asks for mounts besides its own volume; no stack may do that." in said
    assert docker.inspect("container", spec.id) is None


async def test_what_a_program_asks_in_plain_sight_is_refused_before_anything_is_made(
    stacks: StackManager, specify: Any, docker: Any, tmp_path: Path
) -> None:
    spec = specify()

    def program() -> None:
        checks.register()
        pulumi_docker.Container(spec.id, name=spec.id, image=spec.image, privileged=True)

    said = await asyncio.to_thread(_refusal, stacks, spec, tmp_path, program)
    assert f"The container {spec.id} asks for privileged mode; no stack may do that." in said
    assert "Traceback" not in said
    assert docker.inspect("container", spec.id) is None


def _refusal(stacks: StackManager, spec: InstanceSpec, tmp_path: Path, program: Callable[[], None]) -> str:
    """What the engine says to another program than ours."""
    folder = _folder(tmp_path, spec)
    folder.prepare({})
    load_key(tmp_path / "state" / "keys" / "passphrase")
    environment = stacks.environment(spec.id)
    command = automation.PulumiCommand(root=str(Path(environment["PULUMI_HOME"]).parent))
    options = automation.LocalWorkspaceOptions(
        work_dir=str(folder.path), env_vars=environment, pulumi_command=command, secrets_provider="passphrase"
    )
    stack = automation.create_or_select_stack(spec.id, project_name="zaki", program=program, opts=options)
    with pytest.raises(automation.CommandError) as failed:
        stack.up(color="never")
    return str(failed.value)


class TestHost:
    """The stack of a local host."""

    @pytest.fixture
    def host(self, docker: Any, tmp_path: Path, docker_host_stack: Any) -> Iterator[HostSpec]:
        number = docker_host_stack.spec.subnet.network_address.packed[1]
        spec = replace(
            docker_host_stack.spec,
            network=docker_host_stack.spec.network + "b",
            bridge=docker_host_stack.spec.bridge + "b",
            subnet=type(docker_host_stack.spec.subnet)(f"10.{99 if number != 99 else 98}.{os.getpid() % 256}.0/24"),
            docker_range=None,
            host_file=str(tmp_path / "state" / "host.json"),
        )
        yield spec
        docker("network", "rm", spec.network, check=False)

    async def test_up_again_and_down(self, stacks: StackManager, host: HostSpec, docker: Any, tmp_path: Path) -> None:
        assert (await stacks.host_preview(host)).changes == {"create": 4}
        assert not (tmp_path / "state").exists()
        first = await stacks.host_up(host)
        written = Path(host.host_file)
        assert written.read_text() == first.facts
        assert written.stat().st_mode & 0o777 == 0o644
        assert [path.name for path in written.parent.glob("host.json*")] == ["host.json"]
        network = docker.inspect("network", host.network)
        assert network["IPAM"]["Config"] == [
            {"Subnet": str(host.subnet), "Gateway": str(host.gateway), "IPRange": str(host.docker_part)}
        ]
        assert network["Options"] == {
            "com.docker.network.bridge.name": host.bridge,
            "com.docker.network.bridge.enable_icc": "false",
        }
        assert json.loads(first.facts)["image"] == docker.inspect("image", host.image)["Id"]
        assert not (await stacks.host_up(host)).changed
        assert not (await stacks.host_preview(host)).changed
        await stacks.host_down()
        assert docker.inspect("network", host.network) is None
        assert not written.exists()
        assert not (tmp_path / "state" / "host-stack").exists()
        await stacks.host_down()

    async def test_what_went_missing_is_made_again(self, stacks: StackManager, host: HostSpec, docker: Any) -> None:
        first = await stacks.host_up(host)
        written = Path(host.host_file)
        written.write_text("{")
        assert (await stacks.host_up(host)).changed
        assert written.read_text() == first.facts
        docker("network", "rm", host.network)
        written.unlink()
        await stacks.host_up(host)
        assert docker.inspect("network", host.network) is not None
        assert written.read_text() == first.facts
        await stacks.host_down()

    async def test_lost_state_is_made_anew(
        self, stacks: StackManager, host: HostSpec, docker: Any, tmp_path: Path
    ) -> None:
        await stacks.host_up(host)
        shutil.rmtree(tmp_path / "state" / "host-stack")
        assert (await stacks.host_up(host)).changed
        await stacks.host_down()
        assert docker.inspect("network", host.network) is None

    async def test_rebuilt_image_is_noticed(self, stacks: StackManager, host: HostSpec, docker: Any) -> None:
        tag = f"zaki-test/{host.network}:1"
        docker("tag", host.image, tag)
        try:
            await stacks.host_up(replace(host, image=tag))
            container = docker("create", host.image)
            rebuilt = docker("commit", container, tag)
            docker("rm", container)
            second = await stacks.host_up(replace(host, image=tag))
            assert json.loads(second.facts)["image"] == rebuilt
            await stacks.host_down()
        finally:
            docker("rmi", tag)

    async def test_missing_image_is_told_in_a_sentence(self, stacks: StackManager, host: HostSpec, docker: Any) -> None:
        with pytest.raises(StackFailed, match=r"The image zaki-test/nowhere:1 is not to be had .*scripts/setup"):
            await stacks.host_up(replace(host, image="zaki-test/nowhere:1"))
        assert docker.inspect("network", host.network) is None

    async def test_plain_pulumi_in_the_project_agrees(
        self, stacks: StackManager, host: HostSpec, docker: Any, tmp_path: Path
    ) -> None:
        checked_in = (PROJECT / "Pulumi.dev.yaml").read_text()
        await stacks.host_up(host)
        environment = stacks.host_environment()
        preview = _by_hand(environment, "preview", "--expect-no-changes", cwd=PROJECT)
        assert preview.returncode == 0, preview.stdout + preview.stderr
        wider = replace(host, runtime="crun")
        StackFolder(tmp_path / "state" / "host-stack", "dev").prepare(wider.to_config())
        up = _by_hand(environment, "up", "--yes", cwd=PROJECT)
        assert up.returncode == 0, up.stdout + up.stderr
        assert json.loads(Path(host.host_file).read_text())["runtime"] == "crun"
        assert not (await stacks.host_up(wider)).changed
        await stacks.host_down()
        assert (PROJECT / "Pulumi.dev.yaml").read_text() == checked_in

    async def test_plain_pulumi_works_before_anything_was_declared(self, stacks: StackManager, tmp_path: Path) -> None:
        checked_in = (PROJECT / "Pulumi.dev.yaml").read_text()
        with pytest.raises(StackFailed, match="zaki host up"):
            stacks.host_environment()
        assert not (tmp_path / "state").exists()
        preview = _by_hand(stacks.host_environment(make=True), "preview", cwd=PROJECT)
        assert preview.returncode == 0, preview.stdout + preview.stderr
        assert "5 to create" in preview.stdout
        assert str(tmp_path / "state" / "host.json") in preview.stdout
        assert (PROJECT / "Pulumi.dev.yaml").read_text() == checked_in
