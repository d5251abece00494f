"""Who the bot is, and what it says of itself."""

from bot.standins.telegram.errors import bad_request
from bot.standins.telegram.params import Params
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.state import Json


async def get_me(simulator: Simulator, params: Params) -> Json:
    return simulator.bot_user | {
        "can_join_groups": True,
        "can_read_all_group_messages": False,
        "supports_inline_queries": False,
        "can_connect_to_business": False,
        "has_main_web_app": False,
        "has_topics_enabled": False,
        "allows_users_to_create_topics": False,
    }


async def set_my_name(simulator: Simulator, params: Params) -> bool:
    return _set(simulator, simulator.profile.names, params, "name", 64)


async def get_my_name(simulator: Simulator, params: Params) -> Json:
    names = {"": simulator.config.bot_name} | simulator.profile.names
    return {"name": _get(names, params)}


async def set_my_description(simulator: Simulator, params: Params) -> bool:
    return _set(simulator, simulator.profile.descriptions, params, "description", 512)


async def get_my_description(simulator: Simulator, params: Params) -> Json:
    return {"description": _get(simulator.profile.descriptions, params)}


async def set_my_short_description(simulator: Simulator, params: Params) -> bool:
    return _set(simulator, simulator.profile.short_descriptions, params, "short_description", 120)


async def get_my_short_description(simulator: Simulator, params: Params) -> Json:
    return {"short_description": _get(simulator.profile.short_descriptions, params)}


def _set(simulator: Simulator, texts: dict[str, str], params: Params, name: str, longest: int) -> bool:
    text, language = params.text(name), params.text("language_code")
    if len(text) > longest:
        raise bad_request(f"BOT_{name.upper()}_INVALID")
    if text:
        texts[language] = text
    else:
        texts.pop(language, None)
    simulator.events.publish("profile")
    return True


def _get(texts: dict[str, str], params: Params) -> str:
    return texts.get(params.text("language_code")) or texts.get("", "")


METHODS = {
    "getMe": get_me,
    "setMyName": set_my_name,
    "getMyName": get_my_name,
    "setMyDescription": set_my_description,
    "getMyDescription": get_my_description,
    "setMyShortDescription": set_my_short_description,
    "getMyShortDescription": get_my_short_description,
}
