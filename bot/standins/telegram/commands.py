"""Command lists by scope and language: https://core.telegram.org/bots/api#determining-list-of-commands."""

from bot.standins.telegram.errors import bad_request
from bot.standins.telegram.state import Chat, Json, Profile

_PLAIN_SCOPES = frozenset({"default", "all_private_chats", "all_group_chats", "all_chat_administrators"})


def scope_key(scope: Json) -> str:
    """A scope as one string; raises ApiError 400 if it is none of the Bot API's."""
    kind = str(scope.get("type", "default"))
    if kind in _PLAIN_SCOPES:
        return kind
    if kind in {"chat", "chat_administrators"}:
        return f"{kind}:{scope.get('chat_id')}"
    if kind == "chat_member":
        return f"{kind}:{scope.get('chat_id')}:{scope.get('user_id')}"
    raise bad_request("unsupported BotCommandScope type")


def commands_for(profile: Profile, chat: Chat, language: str | None) -> list[Json]:
    """What a person with this language sees in the menu of this chat."""
    scopes = (f"chat:{chat.id}", "all_private_chats" if chat.is_private else "all_group_chats", "default")
    for scope in scopes:
        for known in (language or "", ""):
            if commands := profile.commands.get((scope, known)):
                return commands
    return []
