"""The only part that talks to a Docker daemon."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiodocker
import aiohttp
from aiodocker.events import DockerEvents
from aiodocker.exceptions import DockerError

from bot.provisioner.openclaw import HOME
from bot.provisioner.shape import Shape
from bot.provisioner.trouble import in_plain_words
from bot.store.tables import ContainerState
from infra.spec import HOST_LABEL, INSTANCE_LABEL, NETWORK_LABEL

HELPER_LABEL = "zaki.helper"
#: Seconds that a helper may take: the volume is the instance's, and so is what the helper finds there.
HELPER_DEADLINE = 120.0
_UID = 1000
_READ_LIMIT = 64 * 1024
#: Seconds without a byte moved after which a volume's stream counts as stuck.
_STALLED = 120.0
#: Where a volume is in the container through which it is filled.
_FILL_AT = "/node"
#: Seconds that a gateway gets to end by itself; it may drain a turn.
STOP_GRACE = 20

_STATES = {
    "created": ContainerState.CREATED,
    "running": ContainerState.RUNNING,
    "restarting": ContainerState.RUNNING,
    "paused": ContainerState.PAUSED,
    "exited": ContainerState.EXITED,
    "dead": ContainerState.EXITED,
}


class ContainerError(Exception):
    """Docker refused, or the container is not as it was declared; the message says what to look at."""


@dataclass(frozen=True)
class Observed:
    """A container as it is now."""

    state: ContainerState
    image: str
    #: Its fixed address, None where Docker did not take it over from the declaration.
    address: str | None
    exit_code: int
    oom_killed: bool
    #: How it is made; None: not known.
    shape: Shape | None = None


@dataclass(frozen=True)
class Process:
    """A container's first process."""

    #: The container's full id.
    container: str
    #: Its number where the daemon runs.
    pid: int


@dataclass(frozen=True)
class FileInVolume:
    """A file below the home folder of an instance: path relative to it, parents first made with mode 0700."""

    path: str
    content: bytes


@dataclass(frozen=True)
class Belongings:
    """What a daemon has of one host's instances, by instance id."""

    containers: frozenset[str]
    volumes: frozenset[str]
    #: Instances with a helper; a helper is on no network, so these may be other hosts' too.
    helpers: frozenset[str]
    #: Bridges of this host besides its own that no container is on.
    networks: frozenset[str]


class Containers:
    """Instances' containers and volumes, by instance id; never acts on one that does not carry our owner label."""

    def __init__(self, docker: aiodocker.Docker) -> None:
        self._docker = docker

    @classmethod
    @asynccontextmanager
    async def connect(cls) -> AsyncIterator[Containers]:
        """Containers of the daemon that DOCKER_HOST names, by default the local one."""
        docker = aiodocker.Docker()
        try:
            yield cls(docker)
        finally:
            await docker.close()

    async def observe(self, instance_id: str) -> Observed | None:
        """The instance's container, None where there is none; raises :class:`ContainerError` for a stranger's."""
        found = await self._inspect(instance_id)
        if found is None:
            return None
        labels = found["Config"].get("Labels") or {}
        if labels.get(INSTANCE_LABEL) != instance_id:
            raise ContainerError(f"The container {instance_id} is not Zaki's; remove or rename it.")
        networks = found["NetworkSettings"]["Networks"].values()
        fixed = [(network.get("IPAMConfig") or {}).get("IPv4Address") for network in networks]
        return Observed(
            state=_STATES.get(found["State"]["Status"], ContainerState.EXITED),
            image=found["Image"],
            address=fixed[0] if len(fixed) == 1 else None,
            exit_code=int(found["State"]["ExitCode"]),
            oom_killed=bool(found["State"]["OOMKilled"]),
            shape=Shape.of(found),
        )

    async def process(self, instance_id: str) -> Process | None:
        """The first process of the instance's container, None where that does not run (a paused one does)."""
        found = await self._inspect(instance_id)
        pid = int(found["State"]["Pid"]) if found is not None else 0
        return Process(found["Id"], pid) if found is not None and pid else None

    async def _inspect(self, instance_id: str) -> dict[str, Any] | None:
        """What the daemon knows of the container of this name, None where there is none."""
        try:
            return dict(await self._docker.containers.container(instance_id).show())
        except DockerError as error:
            if error.status == 404:
                return None
            raise _refused(f"inspect {instance_id}", error) from None

    async def states(self) -> dict[str, ContainerState]:
        """The state of every instance's container, by instance id, from one question to the daemon."""
        try:
            found = await self._docker.containers.list(all=True, filters=json.dumps({"label": [INSTANCE_LABEL]}))
        except DockerError as error:
            raise _refused("list the containers", error) from None
        return {
            container["Labels"][INSTANCE_LABEL]: _STATES.get(container["State"], ContainerState.EXITED)
            for container in found
        }

    async def belongings(self, network: str, host_file: str) -> Belongings:
        """What there is of instances on this network, whoever knows of it; instances on other networks are others'.

        `host_file` is where this host's facts are, and tells which other networks are this host's.
        """
        try:
            found = await self._docker.containers.list(all=True, filters=json.dumps({"label": [INSTANCE_LABEL]}))
            ours = {
                container["Labels"][INSTANCE_LABEL]
                for container in found
                if network in container["NetworkSettings"]["Networks"]
            }
            helpers = await self._docker.containers.list(all=True, filters=json.dumps({"label": [HELPER_LABEL]}))
            wanted = {"label": [INSTANCE_LABEL, f"{NETWORK_LABEL}={network}"]}
            volumes = (await self._docker.volumes.list(filters=wanted))["Volumes"]
            bridges = await self._docker.networks.list(filters={"label": [f"{HOST_LABEL}={host_file}"]})
            in_use = {
                name
                for container in await self._docker.containers.list(all=True)
                for name in container["NetworkSettings"]["Networks"]
            }
        except DockerError as error:
            raise _refused("list what there is of instances", error) from None
        return Belongings(
            containers=frozenset(ours),
            volumes=frozenset(volume["Labels"][INSTANCE_LABEL] for volume in volumes or ()),
            helpers=frozenset(helper["Labels"][HELPER_LABEL] for helper in helpers),
            networks=frozenset(bridge["Name"] for bridge in bridges) - in_use - {network},
        )

    async def start(self, instance_id: str, pids: int) -> None:
        """Start or unpause, with the limit of processes set first; starting a running one does nothing."""
        await self.remove_helper(instance_id)
        try:
            container = self._docker.containers.container(instance_id)
            found = await container.show()
            if int(found["HostConfig"].get("PidsLimit") or 0) != pids:
                await self._limit_processes(instance_id, pids)
            if found["State"]["Paused"]:
                await container.unpause()
            else:
                await container.start()
        except DockerError as error:
            raise _refused(f"start {instance_id}", error) from None

    async def limit_processes(self, instance_id: str, pids: int) -> None:
        """Set the limit of processes, which no stack can declare; at once, whether it runs or not."""
        try:
            await self._limit_processes(instance_id, pids)
        except DockerError as error:
            raise _refused(f"limit the processes of {instance_id}", error) from None

    async def _limit_processes(self, instance_id: str, pids: int) -> None:
        # aiodocker has no method for Docker's update, and pulumi-docker no argument for the limit.
        await self._docker._query_json(f"containers/{instance_id}/update", method="POST", data={"PidsLimit": pids})

    async def pause(self, instance_id: str) -> None:
        """Freeze a running container; a paused one is fine."""
        try:
            container = self._docker.containers.container(instance_id)
            if not (await container.show())["State"]["Paused"]:
                await container.pause()
        except DockerError as error:
            raise _refused(f"pause {instance_id}", error) from None

    async def stop(self, instance_id: str) -> None:
        """Stop gracefully; a stopped or missing container is fine."""
        try:
            container = self._docker.containers.container(instance_id)
            found = await container.show()
            if found["State"]["Paused"]:
                await container.unpause()
            await container.stop(t=STOP_GRACE)
        except DockerError as error:
            if error.status != 404:
                raise _refused(f"stop {instance_id}", error) from None

    async def kill(self, instance_id: str) -> None:
        """End it at once, for what is removed anyway; a stopped or missing container is fine."""
        try:
            container = self._docker.containers.container(instance_id)
            found = await container.show()
            if found["State"]["Paused"]:
                await container.unpause()
            if found["State"]["Running"]:
                await container.kill()
        except DockerError as error:
            # 409: it has just ended by itself.
            if error.status not in (404, 409):
                raise _refused(f"end {instance_id}", error) from None

    async def put_files(self, instance_id: str, files: list[FileInVolume]) -> None:
        """Write files into the volume through the archive API, all owned by the gateway's user, mode 0600."""
        try:
            await self._docker.containers.container(instance_id).put_archive(HOME, _archive(files))
        except DockerError as error:
            raise _refused(f"write the configuration of {instance_id}", error) from None

    async def read_file(self, instance_id: str, path: str) -> bytes | None:
        """A file below the home folder; None where there is none, it is no plain file, or it is over 64 KiB."""
        # aiodocker's own method reads a file of any size into memory, and the instance decides about the size.
        try:
            async with self._docker._query(
                f"containers/{instance_id}/archive", method="GET", params={"path": f"{HOME}/{path}"}
            ) as response:
                try:
                    head = await response.content.read(_READ_LIMIT + 2 * tarfile.BLOCKSIZE)
                    while len(head) < _READ_LIMIT + 2 * tarfile.BLOCKSIZE:
                        more = await response.content.read(_READ_LIMIT)
                        if not more:
                            break
                        head += more
                finally:
                    # aiodocker leaves that to us, and until then Docker keeps the container locked.
                    response.close()
        except DockerError as error:
            if error.status == 404:
                return None
            raise _refused(f"read {path} of {instance_id}", error) from None
        with tarfile.open(fileobj=io.BytesIO(head)) as tar:
            entry = tar.next()
            if entry is None or not entry.isfile() or entry.size > _READ_LIMIT:
                return None
            content = tar.extractfile(entry)
            return content.read() if content is not None else None

    async def run_once(self, instance_id: str, command: list[str]) -> int:
        """Run a command in a throw-away container with the instance's volume only; returns its exit code.

        Raises :class:`ContainerError`, also where it does not end within :data:`HELPER_DEADLINE`.
        """
        return await self._run_helper(instance_id, command)

    async def mend_owners(self, instance_id: str) -> None:
        """Give every file in the volume of a stopped instance to the gateway's user, whoever's it was.

        Links are changed, not what they lead to. Raises :class:`ContainerError`, also where that takes longer than
        :data:`HELPER_DEADLINE`.
        """
        await self._require_still(instance_id)
        command = ["/bin/chown", "-R", "-h", "-P", f"{_UID}:{_UID}", HOME]
        code = await self._run_helper(instance_id, command, root=("CHOWN", "DAC_OVERRIDE", "FOWNER"))
        if code != 0:
            raise ContainerError(f"The owners of the files of {instance_id} cannot be mended: chown ended with {code}.")

    async def has_path(self, instance_id: str, path: str) -> bool:
        """Whether anything is at a path below the home folder."""
        try:
            async with self._docker._query(
                f"containers/{instance_id}/archive", method="GET", params={"path": f"{HOME}/{path}"}
            ) as response:
                response.close()
        except DockerError as error:
            if error.status == 404:
                return False
            raise _refused(f"look at {path} of {instance_id}", error) from None
        return True

    async def has_entries(self, instance_id: str, entries: int) -> bool:
        """Whether the volume has exactly so many entries, the home folder itself included and sockets left out."""
        count = 'test "$(find -P "$1" -xdev ! -type s -printf . | wc -c)" -eq "$2"'
        command = ["/bin/sh", "-c", count, "sh", HOME, str(entries)]
        code = await self._run_helper(instance_id, command, root=("DAC_READ_SEARCH",))
        if code not in (0, 1):
            raise ContainerError(f"The files of {instance_id} cannot be counted: the helper ended with {code}.")
        return code == 0

    async def export(self, instance_id: str) -> AsyncGenerator[bytes, None]:
        """Everything in the volume of a container that does not run, as a tar whose only top folder is `node`.

        Sockets are left out, and what Docker cannot read; holes in files are filled. As long as it lasts, Docker
        answers nothing else about this container.
        """
        await self._require_still(instance_id)
        try:
            async with self._docker._query(
                f"containers/{instance_id}/archive",
                method="GET",
                params={"path": HOME},
                timeout=aiohttp.ClientTimeout(sock_read=_STALLED),
            ) as response:
                try:
                    async for piece in response.content.iter_any():
                        yield piece
                finally:
                    # Until then the container is locked, also against being inspected.
                    response.close()
        except DockerError as error:
            raise _refused(f"read the volume of {instance_id}", error) from None
        except (aiohttp.ClientError, TimeoutError):
            raise ContainerError(f"Docker broke off while it read the volume of {instance_id}; try again.") from None

    async def put_tar(self, instance_id: str, pieces: AsyncIterator[bytes]) -> None:
        """Unpack what :meth:`export` gave into the volume of a container that never ran, over what is there.

        Raises :class:`ContainerError` where it is not all there afterwards; what `pieces` raises comes through.
        """
        observed = await self._require_still(instance_id)
        if observed.state is not ContainerState.CREATED:
            raise ContainerError(f"{instance_id} ran already, so its volume is not filled from an archive.")
        await self.remove_helper(instance_id)
        # Docker refuses links that lead out of the folder it unpacks into, unless that is the root; and the root of
        # the instance's own container is read-only. So it goes through one that is never started.
        config: dict[str, Any] = {
            "Image": observed.image,
            "Labels": {HELPER_LABEL: instance_id},
            "HostConfig": {"Binds": [f"{instance_id}:{_FILL_AT}"], "NetworkMode": "none"},
        }
        loop = asyncio.get_running_loop()
        failure: Exception | None = None
        sender: asyncio.Task[Any] | None = None
        try:
            helper = await self._docker.containers.create(config, name=_helper(instance_id))
            try:
                async with asyncio.timeout(_STALLED) as limit:

                    async def body() -> AsyncIterator[bytes]:
                        nonlocal failure, sender
                        sender = asyncio.current_task()
                        try:
                            async for piece in pieces:
                                limit.reschedule(loop.time() + _STALLED)
                                yield piece
                        except Exception as error:
                            failure = error
                            raise

                    async with self._docker._query(
                        f"containers/{helper.id}/archive",
                        method="PUT",
                        params={"path": "/"},
                        data=body(),
                        headers={"Content-Type": "application/x-tar"},
                    ):
                        pass
            finally:
                if sender is not None:
                    # aiohttp does not wait for it, and the caller must be able to close `pieces`.
                    sender.cancel()
                    await asyncio.wait([sender])
                await helper.delete(force=True)
        except DockerError as error:
            if failure is not None:
                raise failure from None
            raise _refused(f"fill the volume of {instance_id}", error) from None
        except TimeoutError:
            raise ContainerError(f"Docker stopped while it filled the volume of {instance_id}; try again.") from None

    async def settle(self, instance_id: str, mark: str) -> None:
        """Bring the volume of a container that does not run to the disk, then remove a file below the home folder."""
        await self._require_still(instance_id)
        command = ["/bin/sh", "-c", 'sync -f "$1" && rm -rf "$1/$2" && sync -f "$1"', "sh", HOME, mark]
        code = await self._run_helper(instance_id, command, root=("DAC_OVERRIDE", "FOWNER"))
        if code != 0:
            raise ContainerError(f"The volume of {instance_id} cannot be written; look at the disk it is on.")

    async def _require_still(self, instance_id: str) -> Observed:
        """The instance's container; raises :class:`ContainerError` where it is missing or runs."""
        observed = await self.observe(instance_id)
        if observed is None:
            raise ContainerError(f"The container {instance_id} is missing; run `zaki instance up {instance_id}`.")
        if observed.state not in (ContainerState.CREATED, ContainerState.EXITED):
            raise ContainerError(f"{instance_id} runs; stop it before its volume is touched.")
        return observed

    async def _run_helper(self, instance_id: str, command: list[str], *, root: Sequence[str] = ()) -> int:
        """As :meth:`run_once`; with `root`, as root with these capabilities alone: only for the image's own code."""
        await self.remove_helper(instance_id)
        observed = await self.observe(instance_id)
        if observed is None:
            raise ContainerError(f"The container {instance_id} is missing; run `zaki instance up {instance_id}`.")
        shown = await self._docker.containers.container(instance_id).show()
        config: dict[str, Any] = {
            "Image": observed.image,
            "Cmd": command,
            "Entrypoint": [],
            "Env": shown["Config"]["Env"],
            "User": "0:0" if root else f"{_UID}:{_UID}",
            "Labels": {HELPER_LABEL: instance_id},
            "HostConfig": {
                "Binds": [f"{instance_id}:{HOME}"],
                "NetworkMode": "none",
                "CapDrop": ["ALL"],
                "CapAdd": list(root),
                "SecurityOpt": ["no-new-privileges"],
                "ReadonlyRootfs": True,
                "Tmpfs": {"/tmp": "rw,nosuid,nodev,size=256m,mode=1777"},  # noqa: S108
                "Memory": shown["HostConfig"]["Memory"],
                "MemorySwap": shown["HostConfig"]["MemorySwap"],
                "PidsLimit": 256,
                "NanoCpus": 1_000_000_000,
                "LogConfig": {"Type": "none"},
                "Init": True,
            },
        }
        try:
            container = await self._docker.containers.create(config, name=_helper(instance_id))
            try:
                await container.start()
                async with asyncio.timeout(HELPER_DEADLINE):
                    result = await container.wait()
                return int(result["StatusCode"])
            finally:
                await container.delete(force=True)
        except TimeoutError:
            raise ContainerError(f"A helper for {instance_id} did not end in {HELPER_DEADLINE:.0f} seconds.") from None
        except DockerError as error:
            raise _refused(f"run a helper for {instance_id}", error) from None

    async def remove_helper(self, instance_id: str) -> None:
        """Remove a helper that a killed provisioner left; while it is there the volume cannot go."""
        try:
            await self._docker.containers.container(_helper(instance_id)).delete(force=True)
        except DockerError as error:
            if error.status != 404:
                raise _refused(f"remove the helper of {instance_id}", error) from None

    async def remove_orphan(self, instance_id: str) -> None:
        """Remove a container and volume that carry the instance's name and our label, and that no stack knows."""
        observed = await self.observe(instance_id)
        try:
            if observed is not None:
                await self._docker.containers.container(instance_id).delete(force=True)
            volume = await self._docker.volumes.get(instance_id)
            if ((await volume.show()).get("Labels") or {}).get(INSTANCE_LABEL) == instance_id:
                await volume.delete()
        except DockerError as error:
            if error.status != 404:
                raise _refused(f"remove {instance_id}", error) from None

    async def remove_orphan_container(self, instance_id: str) -> None:
        """Remove a container with our label that no stack knows, and keep the person's volume."""
        if await self.observe(instance_id) is None:
            return
        try:
            await self._docker.containers.container(instance_id).delete(force=True)
        except DockerError as error:
            if error.status != 404:
                raise _refused(f"remove {instance_id}", error) from None

    async def remove_orphan_network(self, network: str, host_file: str) -> None:
        """Remove a host's bridge that no stack knows; the label says in which file that host's facts are."""
        try:
            found = await self._docker.networks.get(network)
            if ((await found.show()).get("Labels") or {}).get(HOST_LABEL) == host_file:
                await found.delete()
        except DockerError as error:
            if error.status != 404:
                raise _refused(f"remove the network {network}", error) from None

    async def addresses(self, network: str, besides: str = "") -> set[str]:
        """Addresses that are taken on the network, whoever has them, whether they run or not.

        `besides` is an instance whose own container does not count.
        """
        try:
            shown = await (await self._docker.networks.get(network)).show()
            # By its name: one that never ran does not know the network's id yet.
            attached = await self._docker.containers.list(all=True, filters=json.dumps({"network": [network]}))
        except DockerError as error:
            if error.status == 404:
                raise ContainerError(f"The network {network} is missing; declare it with `zaki host up`.") from None
            raise _refused(f"inspect the network {network}", error) from None
        taken = {
            one["IPv4Address"].split("/")[0]
            for one in shown.get("Containers", {}).values()
            if one["Name"] != besides and one.get("IPv4Address")
        }
        for container in attached:
            # One that does not run has no address, and takes the fixed one when it is started.
            on = container["NetworkSettings"]["Networks"].get(network) or {}
            fixed = (on.get("IPAMConfig") or {}).get("IPv4Address")
            if fixed and container["Names"] != [f"/{besides}"]:
                taken.add(fixed)
        return taken

    async def has_volume(self, instance_id: str) -> bool:
        """Whether the instance's files are there; raises :class:`ContainerError` where the volume is a stranger's."""
        try:
            found = await (await self._docker.volumes.get(instance_id)).show()
        except DockerError as error:
            if error.status == 404:
                return False
            raise _refused(f"inspect the volume {instance_id}", error) from None
        if (found.get("Labels") or {}).get(INSTANCE_LABEL) != instance_id:
            raise ContainerError(f"The volume {instance_id} is not Zaki's; remove or rename it.")
        return True

    async def has_image(self, image: str) -> bool:
        """Whether the daemon has the image, so that a container can be made of it."""
        try:
            await self._docker.images.inspect(image)
        except DockerError as error:
            if error.status == 404:
                return False
            raise _refused(f"inspect the image {image}", error) from None
        return True

    async def logs(self, instance_id: str, *, tail: int, follow: bool = False) -> AsyncIterator[str]:
        """Lines that the gateway printed, oldest first."""
        container = self._docker.containers.container(instance_id)
        try:
            if not follow:
                for line in await container.log(stdout=True, stderr=True, tail=tail):
                    yield line
                return
            async for line in container.log(stdout=True, stderr=True, tail=tail, follow=True):
                yield line
        except DockerError as error:
            if error.status == 404:
                raise ContainerError(f"{instance_id} has no container, so there is no log.") from None
            raise _refused(f"read the log of {instance_id}", error) from None

    async def deaths(self) -> AsyncGenerator[str, None]:
        """Ids of instances whose container has just ended, for as long as the daemon answers.

        Raises :class:`ContainerError` where it does not answer at all.
        """
        wanted = {"type": ["container"], "event": ["die"], "label": [INSTANCE_LABEL]}
        # The library's own, shared one stays ended once its daemon was away.
        events = DockerEvents(self._docker)
        subscriber = events.subscribe(filters=json.dumps(wanted))
        following = events.task
        assert following is not None  # noqa: S101 - the subscription has begun it
        try:
            while (event := await subscriber.get()) is not None:
                yield event["Actor"]["Attributes"][INSTANCE_LABEL]
            await following
        except DockerError as error:
            raise _refused("tell which containers end", error) from None
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def _archive(files: list[FileInVolume]) -> bytes:
    """A tar with an entry for each folder: one without an entry would become root's."""
    buffer = io.BytesIO()
    made: set[str] = set()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file in files:
            parts = file.path.split("/")
            for depth in range(1, len(parts)):
                folder = "/".join(parts[:depth])
                if folder not in made:
                    made.add(folder)
                    entry = tarfile.TarInfo(folder)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o700
                    _own(entry)
                    tar.addfile(entry)
            entry = tarfile.TarInfo(file.path)
            entry.size, entry.mode = len(file.content), 0o600
            _own(entry)
            tar.addfile(entry, io.BytesIO(file.content))
    return buffer.getvalue()


def _helper(instance_id: str) -> str:
    return f"{instance_id}-helper"


def _own(entry: tarfile.TarInfo) -> None:
    entry.uid = entry.gid = _UID
    entry.mtime = int(time.time())


def _refused(what: str, error: DockerError) -> ContainerError:
    return ContainerError(f"Docker did not {what}: {in_plain_words(str(error.message)).rstrip('.')}.")
