"""The bot's command menu and its button."""

import re

from bot.standins.telegram.commands import scope_key
from bot.standins.telegram.errors import bad_request
from bot.standins.telegram.params import Params
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.state import Json

_COMMAND = re.compile(r"/?[a-z0-9_]{1,32}")


async def set_my_commands(simulator: Simulator, params: Params) -> bool:
    commands = [_checked(command) for command in params.mappings("commands")]
    if len(commands) > 100:
        raise bad_request("BOT_COMMANDS_TOO_MUCH")
    simulator.profile.commands[_key(simulator, params)] = commands
    simulator.events.publish("profile")
    return True


async def delete_my_commands(simulator: Simulator, params: Params) -> bool:
    simulator.profile.commands.pop(_key(simulator, params), None)
    simulator.events.publish("profile")
    return True


async def get_my_commands(simulator: Simulator, params: Params) -> list[Json]:
    return simulator.profile.commands.get(_key(simulator, params), [])


async def set_chat_menu_button(simulator: Simulator, params: Params) -> bool:
    simulator.profile.menu_buttons[_menu_chat(simulator, params)] = params.mapping("menu_button") or {"type": "default"}
    simulator.events.publish("profile")
    return True


async def get_chat_menu_button(simulator: Simulator, params: Params) -> Json:
    buttons = simulator.profile.menu_buttons
    return buttons.get(_menu_chat(simulator, params)) or buttons.get(None) or {"type": "commands"}


def _key(simulator: Simulator, params: Params) -> tuple[str, str]:
    scope = params.mapping("scope")
    if "chat_id" in scope:
        simulator.chat(scope["chat_id"])
    return scope_key(scope), params.text("language_code")


def _menu_chat(simulator: Simulator, params: Params) -> int | None:
    return simulator.chat(params.text("chat_id")).id if params.text("chat_id") else None


def _checked(command: Json) -> Json:
    name, description = str(command.get("command", "")), str(command.get("description", "")).strip()
    if not _COMMAND.fullmatch(name):
        raise bad_request("BOT_COMMAND_INVALID")
    if not 1 <= len(description) <= 256:
        raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
    return {"command": name.removeprefix("/"), "description": description}


METHODS = {
    "setMyCommands": set_my_commands,
    "deleteMyCommands": delete_my_commands,
    "getMyCommands": get_my_commands,
    "setChatMenuButton": set_chat_menu_button,
    "getChatMenuButton": get_chat_menu_button,
}
