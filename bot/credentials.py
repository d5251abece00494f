"""Virtual credentials of instances, derived from key files of the host, so that no database or stack holds them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import string
from dataclasses import dataclass
from pathlib import Path

_ALPHABET = string.ascii_lowercase + string.digits
_BOT_TOKEN = re.compile(r"\d{10}:Z([a-z0-9]{10})[A-Za-z0-9_-]{24}\Z")
_MODEL_KEY = re.compile(r"sk-zaki-([a-z0-9]{10})-[A-Za-z0-9_-]{43}\Z")


def new_instance_id() -> str:
    """`u-` and 10 random lower-case letters and digits: names the stack, the container, the volume and the folder."""
    return "u-" + "".join(secrets.choice(_ALPHABET) for _ in range(10))


@dataclass(frozen=True, repr=False)
class FrontCredentials:
    """What an instance shows to the front, and the front to the instance."""

    bot_token: str
    model_key: str
    webhook_secret: str


class FrontKey:
    """Derives and checks the credentials that front and instance share.

    `epoch` is the instance's `credentials_epoch`; raising it revokes all that were derived before.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def derive(self, instance_id: str, epoch: int) -> FrontCredentials:
        """The credentials of an instance."""
        random = instance_id.removeprefix("u-")
        number = int.from_bytes(_mac(self._key, instance_id, epoch, "bot-id")[:8], "big")
        return FrontCredentials(
            bot_token=f"{1_000_000_000 + number % 9_000_000_000}:Z{random}"
            + _text(_mac(self._key, instance_id, epoch, "bot-token"))[:24],
            model_key=f"sk-zaki-{random}-" + _text(_mac(self._key, instance_id, epoch, "model-key")),
            webhook_secret=_text(_mac(self._key, instance_id, epoch, "webhook-secret")),
        )

    def sign(self, purpose: str, text: str) -> str:
        """A mark that only the front can make of the text: 43 characters, safe in a URL."""
        return _text(_mac(self._key, text, 0, f"sign:{purpose}"))


class GatewayKey:
    """Derives the gateway tokens, full operator access to an instance; the front never has this key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def derive(self, instance_id: str, epoch: int) -> str:
        """The token of the instance's gateway."""
        return _text(_mac(self._key, instance_id, epoch, "gateway-token"))


class ArchiveKey:
    """Derives the passwords of instances' archives, which outlive every epoch; the front never has this key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def derive(self, instance_id: str) -> str:
        """The password of the instance's archives."""
        return _text(_mac(self._key, instance_id, 0, "archive"))


def instance_of_bot_token(token: str) -> str | None:
    """The instance that a virtual bot token claims to be of; None where it has not the form of one."""
    match = _BOT_TOKEN.match(token)
    return "u-" + match[1] if match else None


def instance_of_model_key(key: str) -> str | None:
    """The instance that a virtual model key claims to be of; None where it has not the form of one."""
    match = _MODEL_KEY.match(key)
    return "u-" + match[1] if match else None


def same(left: str, right: str) -> bool:
    """Compare two credentials in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())


class KeyMissing(Exception):
    """A key that should be there is not; the message says what to do."""


def read_key(path: Path) -> bytes:
    """Read a 32-byte key file that a service has made; raises :class:`KeyMissing`."""
    if not path.exists():
        raise KeyMissing(
            f"{path} is missing: set ZAKI_STATE to the service's folder, or put the key back from your backup."
        )
    return _parsed(path)


def load_key(path: Path, *, shared: bool = False) -> bytes:
    """Read the 32-byte key file, which is made where it is missing; safe against a concurrent maker.

    Its owner alone may read it, or with `shared` its group too: front and provisioner may be two users of one group.
    """
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640 if shared else 0o600), "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return _parsed(path)


def _parsed(path: Path) -> bytes:
    key = path.read_text().strip()
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        raise ValueError(f"{path} is no key of ours; restore it from your backup, or move it away to make a new one.")
    return bytes.fromhex(key)


def _mac(key: bytes, instance_id: str, epoch: int, purpose: str) -> bytes:
    return hmac.new(key, f"{purpose}\0{instance_id}\0{epoch}".encode(), hashlib.sha256).digest()


def _text(mac: bytes) -> str:
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")
