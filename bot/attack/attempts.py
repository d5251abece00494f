"""The list of attempts: what an instance would try, and the control that stops it; the manual shows the same list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an attempt is aimed at."""

    NETWORK = "network"
    FRONT = "front"
    RESOURCES = "resources"
    ESCAPE = "escape"
    FILES = "files"


@dataclass(frozen=True)
class Attempt:
    """One thing that an instance would try."""

    name: str
    kind: Kind
    what: str
    control: str


_FORWARD = "the table `inet zaki`, before Docker's and UFW's own rules"
_KERNEL = (
    "counted by uid, which all instances share: the host's limits are so high that its own limit of memory comes first"
)

#: In the order in which they are made: the last need the instance stopped.
ATTEMPTS: tuple[Attempt, ...] = (
    Attempt(
        "neighbour",
        Kind.NETWORK,
        "reach another instance, by its address at every port that it or a gateway listens at, TCP and UDP",
        "nothing is forwarded from the bridge into the bridge; Docker's `enable_icc=false`",
    ),
    Attempt(
        "host-ports",
        Kind.NETWORK,
        "reach the host's own ports at its address on the bridge and at every other of its addresses",
        f"the gateway's address accepts Zaki's own ports alone: {_FORWARD}",
    ),
    Attempt("metadata", Kind.NETWORK, "reach a cloud's metadata address", f"refused by address: {_FORWARD}"),
    Attempt(
        "private",
        Kind.NETWORK,
        "reach private, carrier, link-local, test and reserved networks",
        f"refused by address under every policy: {_FORWARD}",
    ),
    Attempt("ipv6", Kind.NETWORK, "reach the gateway, a neighbour or the internet over IPv6", "dropped both ways"),
    Attempt("mail", Kind.NETWORK, "send mail: ports 25, 465 and 587 of the internet", "refused under every policy"),
    Attempt(
        "published",
        Kind.NETWORK,
        "reach another container through a port that Docker has published on the host",
        "the translated address is private, so it is refused",
    ),
    Attempt(
        "forged-source",
        Kind.NETWORK,
        "send as another instance, as the gateway or as a stranger: bound without owning it, by raw packets, by taking "
        "the address",
        "no capabilities, so neither raw sockets nor addresses; what is not of the subnet is dropped",
    ),
    Attempt(
        "forged-arp",
        Kind.NETWORK,
        "tell the neighbour that the gateway's address is here",
        "no packet sockets without CAP_NET_RAW; a table below IP drops such frames where the kernel has one",
    ),
    Attempt(
        "rebinding",
        Kind.NETWORK,
        "have a name of its own lead to the metadata address, through a name server of its own",
        "the firewall looks at addresses, whatever name led there; the host's resolver drops such answers too",
    ),
    Attempt(
        "crowd",
        Kind.NETWORK,
        "open so many connections that nobody else gets one",
        "256 open connections of one instance, 128 of them to the front",
    ),
    Attempt(
        "another-chat",
        Kind.FRONT,
        "with its own token, write to, forward from, copy from, read or delete in another's chat",
        "every id in a request must be its owner's chat; requests are rebuilt, never passed through",
    ),
    Attempt(
        "another-token",
        Kind.FRONT,
        "call the Bot API with another instance's token, or with one that it made up",
        "token and source address must agree",
    ),
    Attempt(
        "another-key",
        Kind.FRONT,
        "call the model with another instance's key, with none, or with its own token",
        "key and source address must agree",
    ),
    Attempt(
        "forged-headers",
        Kind.FRONT,
        "claim another's address in `X-Forwarded-For`, `X-Real-IP`, `Forwarded` and `Host`",
        "the front believes the connection alone",
    ),
    Attempt(
        "another-file",
        Kind.FRONT,
        "fetch a file of another's chat by its id, or any file by a path with `..` or an address in it",
        "file ids count only where they were seen in its own chat; paths are the front's own",
    ),
    Attempt(
        "another-skill",
        Kind.FRONT,
        "download a skill in the neighbour's name, so that it is noted as theirs and a recall passes it by",
        "who asks at `/skills` is told by the connection's source address, whatever headers and parameters say",
    ),
    Attempt(
        "another-consent",
        Kind.FRONT,
        "have the install policy at `/skills/policy` allow an update to which only the neighbour's person agreed",
        "what was agreed to is looked up for the instance at the source address",
    ),
    Attempt(
        "skill-paths",
        Kind.FRONT,
        "reach other paths of the registry, or files of the front, by `..` in the name, version, publisher or file of "
        "a skill",
        "names and versions have a shape without paths, checked before anything is asked; files are those that were "
        "vetted",
    ),
    Attempt(
        "fork-bomb", Kind.RESOURCES, "a fork bomb", "its own limit of processes, set before the container is started"
    ),
    Attempt(
        "memory",
        Kind.RESOURCES,
        "take more memory than it may have",
        "its own limits of memory and swap, above which the kernel ends the taker",
    ),
    Attempt("disk", Kind.RESOURCES, "fill the disk", "its disk is a file of a fixed size, taken when it was made"),
    Attempt("inodes", Kind.RESOURCES, "use up the inodes", "they are those of its own file system"),
    Attempt(
        "elsewhere",
        Kind.RESOURCES,
        "fill /tmp, /dev/shm and the root instead",
        "a read-only root, and sized memory file systems that count as its own memory",
    ),
    Attempt(
        "descriptors",
        Kind.RESOURCES,
        "open as many files as there can be",
        "its limits of open files, processes and memory",
    ),
    Attempt("inotify", Kind.RESOURCES, "use up the instances of inotify", _KERNEL),
    Attempt("watches", Kind.RESOURCES, "use up the watches of inotify", _KERNEL),
    Attempt("epoll", Kind.RESOURCES, "use up the watches of epoll", _KERNEL),
    Attempt("pipes", Kind.RESOURCES, "use up the pages of pipes", _KERNEL),
    Attempt("keys", Kind.RESOURCES, "use up the keys of its uid", "Docker's seccomp profile has no calls for keys"),
    Attempt(
        "aio",
        Kind.RESOURCES,
        "use up the machine's asynchronous requests",
        "nothing of Zaki's, and no gateway, needs any",
    ),
    Attempt(
        "log-flood", Kind.RESOURCES, "flood the log of its container", "three files of 10 MB, turned over by Docker"
    ),
    Attempt(
        "mounts",
        Kind.ESCAPE,
        "mount and remount, make namespaces, chroot, make devices, write to the root",
        "no capabilities, a read-only root, Docker's seccomp profile, `nodev` on its disk",
    ),
    Attempt(
        "proc",
        Kind.ESCAPE,
        "change the host through /proc, /sys and the files of its control group",
        "it is uid 1000 without capabilities; Docker mounts them read-only and masks the rest",
    ),
    Attempt(
        "setuid",
        Kind.ESCAPE,
        "become root by the image's setuid programs, or by one on its disk",
        "`no-new-privileges`; `nosuid` on its disk",
    ),
    Attempt(
        "sockets",
        Kind.ESCAPE,
        "talk to Docker's socket, containerd's, or the host's abstract ones",
        "nothing of the host is mounted; a network namespace of its own",
    ),
    Attempt(
        "links",
        Kind.FILES,
        "put links to the host's files where Zaki reads and writes in its volume",
        "the host reads and writes volumes through Docker's archive API, which stays inside of the container",
    ),
    Attempt(
        "poisoned-config",
        Kind.FILES,
        "rewrite `openclaw.json`: another's token, no password, too large, too deep, not JSON",
        "it is read up to 64 KiB, and as a claim only; before a start it is written anew; what it may do is decided "
        "by the front",
    ),
    Attempt(
        "hostile-archive",
        Kind.FILES,
        "leave names, links, pipes, holes and modes in its volume that break out of a backup or an export",
        "its tar is never unpacked on the host: a container that never runs is filled with it",
    ),
)


def markdown() -> Iterator[str]:
    """The list as the lines of a table of the manual."""
    yield "| name | attempt | control |"
    yield "|---|---|---|"
    for attempt in ATTEMPTS:
        yield f"| `{attempt.name}` | {attempt.what} | {attempt.control} |"
