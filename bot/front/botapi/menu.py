"""The owner's command menu: Zaki's commands first, then the instance's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bot.front.botapi.refusals import invalid
from bot.front.menu import COMMAND_NAMES, COMMANDS

#: Telegram takes no more.
_MOST = 100
#: Scopes whose menu the owner would see in the private chat.
_SCOPES = frozenset({"default", "all_private_chats", "chat"})


def concerns_owner(params: Mapping[str, Any]) -> bool:
    """Whether a menu call is about the private chat; those about groups have nothing to change."""
    scope = params.get("scope") or {"type": "default"}
    if not isinstance(scope, Mapping):
        raise invalid("object expected as scope")
    return scope.get("type") in _SCOPES


def merged(params: Mapping[str, Any], owner: int) -> dict[str, Any]:
    """`setMyCommands` for the owner's chat: Zaki's commands, and the instance's that have other names."""
    commands = params.get("commands")
    if not isinstance(commands, list):
        raise invalid("commands must be a list")
    theirs = []
    for command in commands:
        if not isinstance(command, Mapping):
            raise invalid("a command is an object")
        name, description = command.get("command"), command.get("description")
        if not isinstance(name, str) or not isinstance(description, str):
            raise invalid("a command has a command and a description")
        name = name.strip().removeprefix("/").lower()
        if name not in COMMAND_NAMES:
            theirs.append({"command": name, "description": description})
    ours = [{"command": name, "description": description} for name, description in COMMANDS]
    return {"commands": [*ours, *theirs][:_MOST], **address(params, owner)}


def address(params: Mapping[str, Any], owner: int) -> dict[str, Any]:
    """The scope of the owner's chat, and the language where one is given."""
    scoped: dict[str, Any] = {"scope": {"type": "chat", "chat_id": owner}}
    language = params.get("language_code")
    if language:
        if not isinstance(language, str) or not (len(language) == 2 and language.isascii() and language.isalpha()):
            raise invalid("language_code has two letters")
        scoped["language_code"] = language.lower()
    return scoped


def theirs_alone(commands: Any) -> list[Any]:
    """What `getMyCommands` says without Zaki's own."""
    if not isinstance(commands, list):
        return []
    return [item for item in commands if not (isinstance(item, Mapping) and item.get("command") in COMMAND_NAMES)]
