"""Where specifications are read from, and how they are refused."""

from __future__ import annotations

import json
import re
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

#: Pulumi project, and the namespace of its configuration keys.
PROJECT = "zaki"
#: What a value is that says that there is none.
NONE = "none"


class SpecError(ValueError):
    """A specification cannot be used; the message is one sentence that names the value and what to change."""


class Configuration(Protocol):
    """What is read from: `pulumi.Config`, or anything that looks values up alike."""

    def get(self, key: str) -> str | None:
        """The value of a key, without the project's name; None where it is unset."""


class Values:
    """Looks values up and turns them into their types; every failure is a sentence that names the key."""

    def __init__(self, config: Configuration) -> None:
        self._config = config

    def text(self, key: str, default: str | None = None) -> str:
        value = self._config.get(key)
        if value is None:
            value = default
        if value is None:
            raise SpecError(f"{PROJECT}:{key} is unset; set it in the stack's configuration.")
        return value

    def integer(self, key: str, default: int) -> int:
        text = self.text(key, str(default))
        if not re.fullmatch(r"\d{1,9}", text):
            raise SpecError(f"{PROJECT}:{key} is {text!r}; give a whole number.")
        return int(text)

    def boolean(self, key: str, *, default: bool = False) -> bool:
        text = self.text(key, str(default).lower())
        if text not in ("true", "false"):
            raise SpecError(f"{PROJECT}:{key} is {text!r}; give true or false.")
        return text == "true"

    def addresses(self, key: str) -> tuple[IPv4Address, ...]:
        text = self.text(key, "")
        try:
            return tuple(map(IPv4Address, text.split()))
        except ValueError:
            raise SpecError(f"{PROJECT}:{key} is {text!r}; give IPv4 addresses with spaces between them.") from None

    def address(self, key: str) -> IPv4Address:
        text = self.text(key)
        try:
            return IPv4Address(text)
        except ValueError:
            raise SpecError(f"{PROJECT}:{key} is {text!r}; give an IPv4 address.") from None

    def network(self, key: str) -> IPv4Network | None:
        text = self._config.get(key)
        if text is None:
            return None
        try:
            return IPv4Network(text)
        except ValueError:
            raise SpecError(f"{PROJECT}:{key} is {text!r}; give an IPv4 network, for example 10.86.0.0/16.") from None

    def folder(self, key: str, default: str) -> str | None:
        text = self.text(key, default)
        return None if text == NONE else text

    def mapping(self, key: str) -> dict[str, str]:
        text = self.text(key, "{}")
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise SpecError(f'{PROJECT}:{key} is {text!r}; give a JSON object of texts, for example {{"a": "b"}}.')
        return found
