"""What a bot may ask about chats."""

from bot.standins.telegram.errors import bad_request
from bot.standins.telegram.outgoing import known_chat
from bot.standins.telegram.params import Params
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.state import Json


async def get_chat(simulator: Simulator, params: Params) -> Json:
    chat = known_chat(simulator, params)
    info = chat.as_chat() | {
        "accent_color_id": 0,
        "max_reaction_count": 11,
        "accepted_gift_types": {
            "unlimited_gifts": True,
            "limited_gifts": True,
            "unique_gifts": True,
            "premium_subscription": True,
            "gifts_from_channels": True,
        },
    }
    if chat.pinned and (pinned := chat.messages.get(chat.pinned[-1])):
        info["pinned_message"] = pinned
    return info


async def get_chat_member(simulator: Simulator, params: Params) -> Json:
    chat = known_chat(simulator, params)
    user_id = params.integer("user_id")
    if user_id == simulator.config.bot_id:
        return {"user": simulator.bot_user, "status": "member"}
    member = next((person for person in chat.members if person.id == user_id), None)
    if member is None:
        raise bad_request("PARTICIPANT_ID_INVALID")
    return {"user": member.as_user(), "status": "member"}


async def get_chat_member_count(simulator: Simulator, params: Params) -> int:
    return len(known_chat(simulator, params).members) + 1


METHODS = {
    "getChat": get_chat,
    "getChatMember": get_chat_member,
    "getChatMemberCount": get_chat_member_count,
}
