"""The machine that becomes a host: this one, or one that SSH reaches."""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import dataclass

from infra.configuration import Configuration, SpecError

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,253}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
_ED25519 = "ssh-ed25519"
#: How the wire format of such a key begins: the length of its name, the name, the length of the key.
_ED25519_WIRE = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"
_HOW = "give it as ssh://user@host or ssh://user@host:port"


@dataclass(frozen=True, slots=True)
class Target:
    """A machine behind SSH, told by its ed25519 host key; who logs in is proven by the SSH agent alone."""

    user: str
    #: A name or an address, an IPv6 address without brackets.
    host: str
    #: `ssh-ed25519 AAAA…`, without a comment.
    host_key: str
    port: int = 22

    @classmethod
    def parse(cls, url: str, host_key: str | None) -> Target:
        """Read an address such as `ssh://admin@host.example:22` and the host key that belongs to it.

        Raises:
            SpecError: Either cannot be used.
        """
        scheme, separator, rest = url.partition("://")
        if not separator or scheme != "ssh":
            raise SpecError(f"zaki:host_target is {url!r}, which is no SSH address; {_HOW}.")
        user, at, place = rest.rstrip("/").rpartition("@")
        if not at:
            raise SpecError(f"zaki:host_target is {url!r}, which does not say who logs in; {_HOW}.")
        if ":" in user:
            # Not repeated: it may hold a password.
            raise SpecError(f"zaki:host_target holds a password; the SSH agent logs in, so {_HOW}.")
        if not _USER.fullmatch(user):
            raise SpecError(f"zaki:host_target is {url!r}, where {user!r} is no user's name; {_HOW}.")
        found = re.fullmatch(r"(.*?)(?::(\d{1,5}))?", place)
        host, port = (found[1], int(found[2] or 22)) if found else (place, 0)
        if not _HOST.fullmatch(host) or not 1 <= port <= 65535:
            raise SpecError(f"zaki:host_target is {url!r}, where {place!r} is no host and port; {_HOW}.")
        return cls(user=user, host=host.strip("[]"), host_key=_ed25519(host_key, host, port), port=port)

    @classmethod
    def from_config(cls, config: Configuration) -> Target | None:
        """Read `zaki:host_target` and `zaki:host_key`; None: the machine that runs the program.

        Raises:
            SpecError: Either cannot be used.
        """
        url = config.get("host_target")
        return None if url is None else cls.parse(url, config.get("host_key"))

    def to_config(self) -> dict[str, str]:
        """Both values under their qualified keys; `from_config` reads them back."""
        return {"zaki:host_target": self.url, "zaki:host_key": self.host_key}

    @property
    def url(self) -> str:
        """The address, always with its port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{self.user}@{host}:{self.port}"


def _ed25519(key: str | None, host: str, port: int) -> str:
    """The type and the data of a public key."""
    at = f" -p {port}" if port != 22 else ""
    how = (
        f"set it to what `ssh-keyscan -t ed25519{at} {host.strip('[]')}` says, once its provider or console confirms it"
    )
    if not key:
        raise SpecError(f"zaki:host_key is unset, so nobody could tell {host} from an impostor; {how}.")
    words = key.split()
    if _ED25519 not in words[:2]:
        kind = next((word for word in words[:2] if word.startswith(("ssh-", "ecdsa-"))), None)
        what = f"a key of the kind {kind}" if kind else "no public host key"
        raise SpecError(f"zaki:host_key is {what}, and only {_ED25519} is taken; {how}.")
    data = words[words.index(_ED25519) + 1 :][:1]
    try:
        wire = b64decode(data[0], validate=True)
    except (IndexError, ValueError):
        wire = b""
    if len(wire) != len(_ED25519_WIRE) + 32 or not wire.startswith(_ED25519_WIRE):
        raise SpecError(f"zaki:host_key is not a whole {_ED25519} key; {how}.")
    return f"{_ED25519} {data[0]}"
