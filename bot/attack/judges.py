"""Makes each attempt, and decides from the outside what came of it."""
# ruff: noqa: ASYNC240 - what is read here is the kernel's own

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bot.attack.attempts import ATTEMPTS, Attempt
from bot.attack.scene import NotTried, Scene, SceneFailed, Target, listening, output, raw_output
from bot.provisioner import disks
from bot.provisioner.archive import ArchiveError
from bot.provisioner.containers import ContainerError, FileInVolume
from bot.provisioner.openclaw import CONFIG_FILE, USER_FILE
from bot.provisioner.sleep.memory import ContainerMemory, MemoryUnreachable
from bot.provisioner.stackresults import StackError

#: Connections that one instance may have open (`infra/firewall.py`).
MOST_CONNECTIONS = 256
#: Bytes that a log may take: three files of 10 MB, and one that is being turned over.
_MOST_LOG = 42_000_000
#: Bytes of the memory file systems that an instance has.
_MOST_TMP, _MOST_SHM = 256 << 20, 64 << 20
_MARKER = "|/zaki-was-here"
_HOST_SETTINGS = ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/sys/kernel/uevent_helper")
#: Control groups of both versions: what limits an instance.
_LIMITS = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.swap.max")

#: Empty: it was stopped; else how it succeeded, half a sentence.
Judge = Callable[[Scene], Awaitable[str]]


@dataclass(frozen=True)
class Verdict:
    """What came of an attempt."""

    attempt: Attempt
    tried: bool
    succeeded: bool
    #: How it succeeded, or why it was not tried, half a sentence; empty where it was stopped.
    words: str = ""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        about = {"name": self.attempt.name, "kind": self.attempt.kind, "what": self.attempt.what}
        result = {"tried": self.tried, "succeeded": self.succeeded, "words": self.words}
        return {**about, "control": self.attempt.control, **result}


async def judge(scene: Scene, attempt: Attempt) -> Verdict:
    """Make one attempt. What breaks on the way counts as not tried, with the reason."""
    try:
        words = await JUDGES[attempt.name](scene)
    except NotTried as reason:
        return Verdict(attempt, False, False, str(reason))
    except (SceneFailed, ContainerError, MemoryUnreachable, StackError) as error:
        return Verdict(attempt, False, False, f"it could not be made: {error}")
    return Verdict(attempt, True, bool(words), words)


async def judge_all(scene: Scene) -> AsyncIterator[Verdict]:
    """Make all of them, in order."""
    for attempt in ATTEMPTS:
        yield await judge(scene, attempt)


async def _reach(scene: Scene, at: str) -> str:
    targets = scene.targets.get(at, ())
    if not targets:
        raise scene.lack(at)
    await scene.stands.watch()
    async with scene.attacking("reach", targets=[target.given for target in targets]):
        pass
    return _told(set(targets) & set(await scene.stands.landed()))


def _told(arrived: set[Target]) -> str:
    if not arrived:
        return ""
    first = sorted(arrived)[:4]
    more = f" and {len(arrived) - len(first)} more" if len(arrived) > len(first) else ""
    return f"it reached {', '.join(f'{one.address} {one.kind} {one.port}' for one in first)}{more}"


async def _forged_source(scene: Scene) -> str:
    if scene.forged is None:
        raise scene.lack("forged-source")
    to, sources = scene.forged
    await scene.stands.watch()
    async with scene.attacking("forge", to=[to.address, to.port], sources=list(sources)):
        return _told({to} & set(await scene.stands.landed()))


async def _forged_arp(scene: Scene) -> str:
    if scene.gateway is None:
        raise scene.lack("forged-arp")
    device = json.loads(await scene.in_network(scene.attacker, "ip", "-j", "link", "show", "eth0"))[0]["address"]
    victim = json.loads(await scene.in_network(scene.neighbour, "ip", "-j", "-4", "addr", "show", "eth0"))
    with suppress(SceneFailed):
        # It must know the gateway before it can be told otherwise.
        await scene.neighbour_does("reach", targets=[scene.gateway.given])
    given = {"claimed": scene.gateway.address, "victim": victim[0]["addr_info"][0]["local"]}
    async with scene.attacking("arp", **given):
        known = json.loads(await scene.in_network(scene.neighbour, "ip", "-j", "neigh", "show") or "[]")
    fooled = any(one["dst"] == scene.gateway.address and one.get("lladdr") == device for one in known)
    return "the neighbour takes it for the gateway" if fooled else ""


async def _rebinding(scene: Scene) -> str:
    if scene.rebinding is None:
        raise scene.lack("rebinding")
    server, name, target = scene.rebinding
    await scene.stands.watch()
    async with scene.attacking("rebind", server=server, name=name, port=target.port):
        return _told({target} & set(await scene.stands.landed()))


async def _crowd(scene: Scene) -> str:
    if scene.gateway is None:
        raise scene.lack("crowd")
    address = json.loads(await scene.in_network(scene.attacker, "ip", "-j", "-4", "addr", "show", "eth0"))
    own = address[0]["addr_info"][0]["local"]
    to = [scene.gateway.address, scene.gateway.port]
    async with scene.attacking("crowd", to=to, count=MOST_CONNECTIONS + 64):
        listed = await output(*scene.on_host, "ss", "-Htn", "state", "established", "dst", own)
        count = sum(f":{scene.gateway.port} " in line for line in listed.splitlines())
        answered = await scene.neighbour_does("reach", targets=[scene.gateway.given])
    if count > MOST_CONNECTIONS:
        return f"it has {count} connections open"
    # A front says nothing before it is asked.
    return (
        "" if answered[0] in ("answered", "closed", "timed out", "TimeoutError") else f"the neighbour got {answered[0]}"
    )


async def _call(
    scene: Scene, name: str, requests: list[dict[str, Any]], *, all_refused: bool = True, granted: str = ""
) -> str:
    """`granted`: what an answer says that gives the attacker what it wants."""
    front = scene.front
    if front is None:
        raise scene.lack(name)
    await front.watch()
    async with scene.attacking("call", address=front.at.address, port=front.at.port, requests=requests) as said:
        if all(status == 0 for status, _ in said):
            raise SceneFailed(f"the front did not answer: {said[0][1]}")
        taken = [request["path"] for (status, _), request in zip(said, requests, strict=True) if status < 300]
        harm = await front.harm()
    if not harm and all_refused and any(status == 200 for status, _ in said):
        return f"the front did not refuse {taken[-1].rpartition('/')[2]}"
    if not harm and granted and any(granted in words for _, words in said):
        return f"the front answered {granted}"
    return harm


def _request(path: str, body: object = None, method: str = "POST", **headers: str) -> dict[str, Any]:
    given = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    return {"method": method, "path": path, "headers": given, "body": "" if body is None else json.dumps(body)}


async def _another_chat(scene: Scene) -> str:
    front = scene.front
    if front is None:
        raise scene.lack("another-chat")
    mine, theirs = front.my_chat, front.their_chat
    calls: dict[str, list[dict[str, Any]]] = {
        "sendMessage": [
            {"chat_id": theirs, "text": "harm"},
            {"chat_id": str(theirs), "text": "harm"},
            {"chat_id": f"+{theirs}", "text": "harm"},
            {"chat_id": f" {theirs}", "text": "harm"},
            {"chat_id": [theirs], "text": "harm"},
            {"chat_id": float(theirs), "text": "harm"},
            {"chat_id": mine, "text": "harm", "reply_parameters": {"chat_id": theirs, "message_id": 1}},
        ],
        "forwardMessage": [
            {"chat_id": theirs, "from_chat_id": mine, "message_id": 1},
            {"chat_id": mine, "from_chat_id": theirs, "message_id": 1},
        ],
        "copyMessage": [{"chat_id": mine, "from_chat_id": theirs, "message_id": 1}],
        "copyMessages": [{"chat_id": mine, "from_chat_id": theirs, "message_ids": [1, 2]}],
        "deleteMessage": [{"chat_id": theirs, "message_id": 1}],
        "deleteMessages": [{"chat_id": theirs, "message_ids": [1]}],
        "editMessageText": [{"chat_id": theirs, "message_id": 1, "text": "harm"}],
        "setMessageReaction": [{"chat_id": theirs, "message_id": 1}],
        "pinChatMessage": [{"chat_id": theirs, "message_id": 1}],
        "sendChatAction": [{"chat_id": theirs, "action": "typing"}],
        "sendDocument": [{"chat_id": theirs, "document": "attach://x"}],
        "getChat": [{"chat_id": theirs}],
        "getChatMember": [{"chat_id": mine, "user_id": theirs}],
        "getUserProfilePhotos": [{"user_id": theirs}],
        "setMyCommands": [{"commands": [], "scope": {"type": "chat", "chat_id": theirs}}],
        "sendMessageDraft": [{"chat_id": theirs, "draft_id": 1, "text": "harm"}],
        "sendGift": [{"user_id": theirs, "gift_id": "1"}],
    }
    requests = [
        _request(f"/telegram/bot{front.mine.bot_token}/{method}", body)
        for method, bodies in calls.items()
        for body in bodies
    ]
    form = f"chat_id={mine}&chat_id={theirs}&text=harm"
    requests.append(
        {
            **_request(f"/telegram/bot{front.mine.bot_token}/sendMessage?chat_id={theirs}"),
            "body": form,
            "headers": {"content-type": "application/x-www-form-urlencoded"},
        }
    )
    # One that names its own chat too may be taken as being for that.
    return await _call(scene, "another-chat", requests, all_refused=False)


async def _another_token(scene: Scene) -> str:
    front = scene.front
    if front is None:
        raise scene.lack("another-token")
    token, chat = front.theirs.bot_token, front.their_chat
    made_up = f"{token[:-4]}AAAA"
    own = front.mine.bot_token
    paths = [f"/telegram/bot{which}" for which in (token, made_up, f"{own}/../bot{token}", f"{own}%2F..%2Fbot{token}")]
    said = {"chat_id": chat, "text": "harm"}
    requests = [_request(f"{path}/sendMessage", said) for path in paths]
    requests += [_request(f"{path}/getUpdates", {}) for path in paths]
    requests.append(_request(f"/telegram/bot{token}/getFile", {"file_id": front.their_file}))
    return await _call(scene, "another-token", requests)


async def _another_key(scene: Scene) -> str:
    front = scene.front
    if front is None:
        raise scene.lack("another-key")
    asked = {"model": "default", "messages": [{"role": "user", "content": "harm"}]}
    keys = (front.theirs.model_key, f"{front.mine.model_key[:-4]}AAAA", front.mine.bot_token, "")
    requests = [_request("/llm/v1/chat/completions", asked, authorization=f"Bearer {key}") for key in keys]
    requests.append(_request("/llm/v1/chat/completions", asked))
    requests += [_request("/llm/v1/models", method="GET", authorization=f"Bearer {keys[0]}")]
    return await _call(scene, "another-key", requests)


async def _claims(scene: Scene) -> list[dict[str, str]]:
    """Headers that claim the neighbour's address."""
    neighbour = json.loads(await scene.in_network(scene.neighbour, "ip", "-j", "-4", "addr", "show", "eth0"))
    them = neighbour[0]["addr_info"][0]["local"]
    return [
        {"x_forwarded_for": them},
        {"x_real_ip": them},
        {"forwarded": f"for={them}"},
        {"host": f"{them}:8081", "x_forwarded_host": them, "x_client_ip": them, "true_client_ip": them},
        {"x_forwarded_for": f"{them}, 127.0.0.1", "via": "1.1 localhost"},
    ]


async def _forged_headers(scene: Scene) -> str:
    front = scene.front
    if front is None:
        raise scene.lack("forged-headers")
    asked = {"model": "default", "messages": [{"role": "user", "content": "harm"}]}
    requests = []
    for headers in await _claims(scene):
        message = {"chat_id": front.their_chat, "text": "harm"}
        requests.append(_request(f"/telegram/bot{front.theirs.bot_token}/sendMessage", message, **headers))
        key = f"Bearer {front.theirs.model_key}"
        requests.append(_request("/llm/v1/chat/completions", asked, authorization=key, **headers))
    return await _call(scene, "forged-headers", requests)


async def _another_file(scene: Scene) -> str:
    front = scene.front
    if front is None:
        raise scene.lack("another-file")
    own = f"/telegram/file/bot{front.mine.bot_token}"
    requests = [_request(f"/telegram/bot{front.mine.bot_token}/getFile", {"file_id": front.their_file})]
    requests += [
        _request(f"/telegram/bot{front.mine.bot_token}/sendDocument", {"chat_id": front.my_chat, "document": what})
        for what in (front.their_file, "file:///etc/passwd", "http://169.254.169.254/")
    ]
    requests += [
        _request(f"{own}/{path}", method="GET")
        for path in (
            front.their_file,
            "documents/file_1.pdf",
            "../../../../etc/passwd",
            "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
            "..%2f..%2fkeys%2ffront.key",
            "/etc/passwd",
        )
    ]
    # A link is Telegram's to fetch or to refuse.
    return await _call(scene, "another-file", requests, all_refused=False)


async def _another_skill(scene: Scene) -> str:
    front = scene.front
    if front is None:
        raise scene.lack("another-skill")
    them, path = scene.neighbour.id, f"/skills/api/v1/download?{urlencode(front.skill)}"
    own = [{"x_instance": them, "x_zaki_instance": them, "cookie": f"instance={them}"}]
    requests = [_request(path, method="GET", **headers) for headers in [*await _claims(scene), *own]]
    requests += [
        _request(f"{path}&{urlencode({'instance': them, 'instance_id': them})}", method="GET"),
        _request(path, method="GET", authorization=f"Bearer {front.theirs.bot_token}"),
        _request(f"/skills/{them}{path.removeprefix('/skills')}", method="GET"),
    ]
    # Its own copy it may have.
    return await _call(scene, "another-skill", requests, all_refused=False)


async def _another_consent(scene: Scene) -> str:
    front = scene.front
    if front is None:
        raise scene.lack("another-consent")
    them = scene.neighbour.id
    requests = [_request("/skills/policy", front.update, **headers) for headers in [{}, *await _claims(scene)]]
    requests += [
        _request("/skills/policy", {**front.update, "instance": them, "instance_id": them}),
        _request(f"/skills/policy?instance={them}", front.update, x_instance=them),
    ]
    return await _call(scene, "another-consent", requests, all_refused=False, granted='"allow"')


async def _skill_paths(scene: Scene) -> str:
    front = scene.front
    if front is None:
        raise scene.lack("skill-paths")
    up, skill, api = "..%2f..%2f..%2fadmin", front.skill, "/skills/api/v1"
    own = f"{api}/skills/{skill['slug']}"
    owner = urlencode({"ownerHandle": skill["ownerHandle"]})
    paths = [
        f"{api}/skills/{up}",
        f"{api}/skills/../../../admin",
        f"{api}/skills/%252e%252e%252fadmin",
        f"{api}/skills/{up}/install?{owner}",
        f"{own}?ownerHandle={up}",
        f"{own}/versions/{up}?{owner}",
        f"{own}/versions/1.0.0%3fx=%2fadmin?{owner}",
        f"{api}/download?slug={up}&{owner}&version=1.0.0",
        f"{api}/download?slug={skill['slug']}&ownerHandle={up}&version=1.0.0",
        f"{api}/download?slug={skill['slug']}&{owner}&version={up}",
        f"{api}/resolve?slug={up}&{owner}",
        f"{own}/file?{owner}&path=..%2f..%2f..%2fkeys%2ffront.key",
        f"{own}/file?{owner}&path=%2fetc%2fpasswd",
        "/skills/..%2f..%2fhealthz",
    ]
    return await _call(scene, "skill-paths", [_request(path, method="GET") for path in paths])


async def _exhaust(scene: Scene, script: str, /, **given: Any) -> str:
    """The attacker takes much of something, and the neighbour works meanwhile."""
    async with scene.attacking(script, **given):
        return await scene.neighbour_works()


def _exhausting(script: str, **given: Any) -> Judge:
    return lambda scene: _exhaust(scene, script, **given)


@dataclass(frozen=True)
class Shared:
    """Something of the kernel's that it counts by uid: all instances together have so much of it."""

    name: str
    setting: Path
    #: Bytes of an instance's own memory that each takes at least (measured on Linux 6.18: 977, 88, 207 and 4,096).
    cost: int
    #: The setting's value for no limit at all; None: there is none.
    unlimited: int | None = None

    def reachable(self, limit: int, memory: int) -> str:
        """Whether one instance with so many bytes of memory can use all of it up; empty: it cannot."""
        if limit == self.unlimited or limit * self.cost >= memory:
            return ""
        return (
            f"the host's limit of {limit} {self.name} for all instances is within the memory of one: "
            f"raise {'.'.join(self.setting.parts[3:])}"
        )


SHARED = {
    "inotify": Shared("instances of inotify", Path("/proc/sys/fs/inotify/max_user_instances"), 512),
    "watches": Shared("watches of inotify", Path("/proc/sys/fs/inotify/max_user_watches"), 64),
    "epoll": Shared("watches of epoll", Path("/proc/sys/fs/epoll/max_user_watches"), 128),
    "pipes": Shared("pages of pipes", Path("/proc/sys/fs/pipe-user-pages-soft"), 4096, unlimited=0),
}


async def _share(scene: Scene, what: str, /, **given: Any) -> str:
    """The attacker takes much, which shows that it gets any; whether it could take all is told by the host's limit.

    It does not take all: where that works, instances of people on a live host would go without.
    """
    async with scene.attacking(what, **given):
        harm = await scene.neighbour_works()
    shared = SHARED[what]
    return harm or shared.reachable(int(shared.setting.read_text()), scene.attacker.memory_mib << 20)


def _sharing(what: str, **given: Any) -> Judge:
    return lambda scene: _share(scene, what, **given)


async def _fork_bomb(scene: Scene) -> str:
    before = len(await scene.processes(scene.attacker))
    async with scene.attacking("fork"):
        count = await asyncio.to_thread(_threads, await scene.processes(scene.attacker))
        harm = await scene.neighbour_works()
    # The next attempt needs processes too, and those that were let go take a moment to end.
    async with asyncio.timeout(60):
        while len(await scene.processes(scene.attacker)) > before:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.1)
    if count > scene.attacker.pids:
        return f"it has {count} processes"
    return harm


def _threads(processes: list[int]) -> int:
    count = 0
    for pid in processes:
        with suppress(OSError):
            count += len(list(Path(f"/proc/{pid}/task").iterdir()))
    return count


async def _memory(scene: Scene) -> str:
    process = await scene.containers.process(scene.attacker.id)
    if process is None:
        raise SceneFailed(f"{scene.attacker.id} does not run")
    group = ContainerMemory.of(process)
    wanted = scene.attacker.memory_mib + 192
    async with scene.attacking("memory", mib=wanted):
        harm = await scene.neighbour_works()
        peak = _number(group.folder, "memory.peak", "memory.max_usage_in_bytes")
    if peak > scene.attacker.memory_mib << 20:
        return f"it had {peak >> 20} MiB"
    if peak < scene.attacker.memory_mib << 19:
        raise SceneFailed(f"it got {peak >> 20} MiB only")
    # How far swap goes is the kernel's word: to fill it takes minutes on a slow disk.
    most = scene.attacker.swap_mib << 20
    limit = _number(group.folder, "memory.memsw.limit_in_bytes", "memory.swap.max")
    if limit > most:
        return f"it may have {limit >> 20} MiB of memory and swap"
    return harm


def _number(folder: Path, *names: str) -> int:
    for name in names:
        with suppress(OSError):
            text = (folder / name).read_text().strip()
            return sys.maxsize if text == "max" else int(text)
    raise SceneFailed(f"the control group does not tell {names[0]}")


async def _disk(scene: Scene) -> str:
    volumes = scene.attacker.volumes
    if volumes is None:
        raise NotTried("volumes have no limit on this host, and it would be full: name a folder as zaki:volumes")
    image = Path(volumes, f"{scene.attacker.id}.img")
    async with scene.attacking("fill", folder="/home/node"):
        use = disks.use(volumes, scene.attacker.id)
        harm = await scene.neighbour_works()
        size = image.stat().st_blocks * 512
    if size > (scene.attacker.disk_mib + 1) << 20:
        return f"its disk takes {size >> 20} MiB"
    if use is None or not use.is_full:
        raise SceneFailed(f"its disk is not full: {use}")
    return harm


async def _inodes(scene: Scene) -> str:
    volumes = scene.attacker.volumes
    if volumes is None:
        raise NotTried("volumes have no limit on this host, and it would be full: name a folder as zaki:volumes")
    async with scene.attacking("many", folder="/home/node", most=2 * scene.attacker.inodes):
        use = disks.use(volumes, scene.attacker.id)
        harm = await scene.neighbour_works()
    if use is None or not use.is_full:
        raise SceneFailed(f"its disk is not full: {use}")
    return harm


async def _elsewhere(scene: Scene) -> str:
    root = Path(f"/proc/{await scene.first_process(scene.attacker)}/root")
    async with scene.attacking("fill", folder="/tmp"):  # noqa: S108
        harm = await scene.neighbour_works()
    async with scene.attacking("fill", folder="/dev/shm"):  # noqa: S108
        pass
    async with scene.attacking("fill", folder="/"):
        changed = await output("docker", "diff", scene.attacker.id)
    for folder, most in (("tmp", _MOST_TMP), ("dev/shm", _MOST_SHM)):
        found = os.statvfs(root / folder)
        if found.f_blocks * found.f_frsize > most:
            return f"/{folder} is larger than {most >> 20} MiB"
    written = [line for line in changed.splitlines() if "filler" in line]
    return f"it wrote to its root: {written[0]}" if written else harm


async def _log_flood(scene: Scene) -> str:
    process = await scene.containers.process(scene.attacker.id)
    root = (await output("docker", "info", "--format", "{{.DockerRootDir}}")).strip()
    folder = Path(root, "containers", process.container if process else "")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise NotTried(f"{folder} can be read by root alone")
    async with scene.attacking("log", mib=64) as written:
        if not isinstance(written, int):
            raise SceneFailed(f"it cannot write to its log: {written}")
        harm = await scene.neighbour_works()
        size = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    return f"its log takes {size >> 20} MiB" if size > _MOST_LOG else harm


async def _mounts(scene: Scene) -> str:
    first = await scene.first_process(scene.attacker)
    before = _mountinfo(first)
    disks_here = [(os.major(number), os.minor(number)) for number in _block_devices()]
    async with scene.attacking("mounts", devices=disks_here[:2]):
        for pid in await scene.processes(scene.attacker):
            with suppress(OSError):
                if Path(f"/proc/{pid}/ns/user").readlink() != Path(f"/proc/{first}/ns/user").readlink():
                    return "it has a namespace of users"
                if _mountinfo(pid) != before:
                    return "it has mounted something"
        for folder in ("tmp", "home/node", "dev", "dev/shm"):
            for path in Path(f"/proc/{first}/root", folder).iterdir():
                if path.name.startswith("device") and stat.S_ISBLK(path.lstat().st_mode):
                    return "it has made a device"
        changed = await output("docker", "diff", scene.attacker.id)
    written = [line[2:] for line in changed.splitlines() if line[2:] in ("/escaped", "/etc/passwd")]
    return f"it has written {written[0]}" if written else ""


def _mountinfo(pid: int) -> str:
    return Path(f"/proc/{pid}/mountinfo").read_text()


def _block_devices() -> list[int]:
    """Numbers of this machine's disks."""
    found = []
    for folder in sorted(Path("/sys/block").iterdir()):
        with suppress(OSError, ValueError):
            major, _, minor = (folder / "dev").read_text().strip().partition(":")
            found.append(os.makedev(int(major), int(minor)))
    return found


async def _proc(scene: Scene) -> str:
    process = await scene.containers.process(scene.attacker.id)
    if process is None:
        raise SceneFailed(f"{scene.attacker.id} does not run")
    group = ContainerMemory.of(process).folder
    before = {path: _text(path) for path in (*map(Path, _HOST_SETTINGS), *(group / name for name in _LIMITS))}
    async with scene.attacking("proc", marker=_MARKER):
        opened = [_links(pid) for pid in await scene.processes(scene.attacker)]
    try:
        for path, text in before.items():
            if _text(path) != text:
                return f"it has changed {path}"
        seen = {"/proc/kcore", "/dev/mem", "/dev/kmsg"} & set().union(*opened)
        return f"it has opened {sorted(seen)[0]}" if seen else ""
    finally:
        for path, text in before.items():
            if text is not None and _text(path) != text:
                path.write_text(text)


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _links(pid: int) -> set[str]:
    """What a process has open."""
    found = set()
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found.add(str(entry.readlink()))
    return found


async def _setuid(scene: Scene) -> str:
    # As somebody might have put it there before the disk was one.
    with suppress(SceneFailed):
        program = await raw_output("docker", "cp", f"{scene.attacker.id}:/usr/bin/su", "-")
        await raw_output("docker", "cp", "-a", "-", f"{scene.attacker.id}:/home/node", given=program)
    async with scene.attacking("setuid") as found:
        if not found:
            raise SceneFailed("the image has no such program")
        for pid in await scene.processes(scene.attacker):
            with suppress(OSError):
                [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "Uid:" in line]
                if set(line.split()[1:]) != {"1000"}:
                    return f"a process of it has the uids {' '.join(line.split()[1:])}"
    return ""


async def _sockets(scene: Scene) -> str:
    name = f"zaki-attack-{os.urandom(6).hex()}"
    root = Path(f"/proc/{await scene.first_process(scene.attacker)}/root")
    # Without a link on the way, which would lead to the host's own.
    paths = ("run/docker.sock", "run/containerd/containerd.sock", "run/dbus/system_bus_socket")
    async with listening([Target(f"@{name}", 0, "unix")]) as stand:
        async with scene.attacking("sockets", abstract=name, paths=[f"/{path}" for path in paths]):
            pass
        if await stand.arrived():
            return "it reached an abstract socket of the host"
    present = [path for path in paths if (root / path).is_socket()]
    return f"the host's /{present[0]} is inside" if present else ""


@dataclass
class _Canary:
    """A file on the host that nobody may read or change through a volume."""

    folder: Path
    secret: bytes

    @classmethod
    def in_(cls, folder: Path) -> _Canary:
        """A new one."""
        made = cls(folder / f"canary-{os.urandom(4).hex()}", os.urandom(16).hex().encode())
        made.folder.mkdir()
        # Whoever follows a link to it may be anybody.
        made.folder.chmod(0o777)
        made.file.write_bytes(made.secret)
        made.file.chmod(0o666)
        return made

    @property
    def file(self) -> Path:
        """Its place."""
        return self.folder / "openclaw.json"

    def harm(self) -> str:
        """What was done to it."""
        if self.file.read_bytes() != self.secret:
            return f"{self.file} on the host was changed"
        more = sorted(path.name for path in self.folder.iterdir() if path != self.file)
        return f"{more[0]} was written to {self.folder} on the host" if more else ""


async def _link(scene: Scene) -> str:
    files = [FileInVolume(CONFIG_FILE, b"{}"), FileInVolume(USER_FILE, b"you")]
    for place, to_folder in ((CONFIG_FILE, False), (USER_FILE, False), (".openclaw", True)):
        canary = _Canary.in_(scene.folder)
        target = canary.folder if to_folder else canary.file
        async with scene.attacking("links", targets={place: str(target)}):
            pass
        try:
            for read in (CONFIG_FILE, USER_FILE):
                with suppress(ContainerError):
                    found = await scene.containers.read_file(scene.attacker.id, read)
                    if found is not None and canary.secret in found:
                        return f"Zaki read {canary.file} on the host"
            with suppress(ContainerError):
                await scene.containers.put_files(scene.attacker.id, files)
            if harm := canary.harm():
                return harm
        finally:
            async with scene.attacking("unlink", places=[place]):
                pass
    return ""


async def _poisoned_config(scene: Scene) -> str:
    ours = b'{"written": "by Zaki"}'
    for config in ('{"gateway": {"auth": {"mode": "none"}}}', "[" * 60_000, "x" * (1 << 20), "\0", "{"):
        async with scene.attacking("poison", configs=[config], place=CONFIG_FILE):
            found = await scene.containers.read_file(scene.attacker.id, CONFIG_FILE)
            if found is not None and len(found) > 64 * 1024:
                return f"Zaki read {len(found)} bytes of it"
            await scene.containers.put_files(scene.attacker.id, [FileInVolume(CONFIG_FILE, ours)])
            if await scene.containers.read_file(scene.attacker.id, CONFIG_FILE) != ours:
                return "it is not as Zaki has written it"
    return ""


async def _hostile_archive(scene: Scene) -> str:
    canary = _Canary.in_(scene.folder)
    who = scene.attacker
    async with scene.attacking("hostile", outside=str(canary.folder)):
        pass
    await scene.containers.stop(who.id)
    async with aclosing(scene.containers.export(who.id)) as pieces:
        tail = b""
        async for piece in pieces:
            if canary.secret in tail + piece:
                return f"its export holds {canary.file} of the host"
            tail = piece[-len(canary.secret) :]
    try:
        saved = await scene.archive.save(who.id)
        await scene.stacks.destroy(who.id)
        await scene.stacks.up(who)
        await scene.archive.restore(who.id, saved.snapshot)
    except ArchiveError as error:
        raise SceneFailed(str(error)) from None
    if harm := canary.harm():
        return harm
    await scene.containers.start(who.id, who.pids)
    return await scene.neighbour_works()


JUDGES: dict[str, Judge] = {
    **{
        name: partial(_reach, at=name)
        for name in ("neighbour", "host-ports", "metadata", "private", "ipv6", "mail", "published")
    },
    "forged-source": _forged_source,
    "forged-arp": _forged_arp,
    "rebinding": _rebinding,
    "crowd": _crowd,
    "another-chat": _another_chat,
    "another-token": _another_token,
    "another-key": _another_key,
    "forged-headers": _forged_headers,
    "another-file": _another_file,
    "another-skill": _another_skill,
    "another-consent": _another_consent,
    "skill-paths": _skill_paths,
    "fork-bomb": _fork_bomb,
    "memory": _memory,
    "disk": _disk,
    "inodes": _inodes,
    "elsewhere": _elsewhere,
    "descriptors": _exhausting("descriptors", processes=4),
    "inotify": _sharing("inotify", processes=1),
    "watches": _sharing("watches", folder="/dev/shm", files=300, instances=100),  # noqa: S108
    "epoll": _sharing("epoll", sets=20, each=5000),
    "pipes": _sharing("pipes", count=2000),
    "keys": _exhausting("keys", count=30_000),
    "aio": _exhausting("aio", count=64),
    "log-flood": _log_flood,
    "mounts": _mounts,
    "proc": _proc,
    "setuid": _setuid,
    "sockets": _sockets,
    "links": _link,
    "poisoned-config": _poisoned_config,
    "hostile-archive": _hostile_archive,
}
