"""Changes to messages that are there already."""

from bot.standins.telegram.errors import bad_request
from bot.standins.telegram.media_content import media_content
from bot.standins.telegram.outgoing import (
    caption_content,
    inline_keyboard,
    known_chat,
    text_content,
    writable_chat,
)
from bot.standins.telegram.params import Params, as_integer
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.state import Chat, Json

_NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same as a current content "
    "and reply markup of the message"
)
_TEXT = ("text", "entities", "link_preview_options")
_CAPTION = ("caption", "caption_entities")
_MEDIA = ("photo", "document", "video", "animation", "audio", "voice", "sticker", "media_group_id")


async def edit_message_text(simulator: Simulator, params: Params) -> Json:
    chat, message = _own_message(simulator, params)
    if "text" not in message:
        raise bad_request("there is no text in the message to edit")
    return _edit(simulator, chat, message, _TEXT, text_content(params) | inline_keyboard(params))


async def edit_message_caption(simulator: Simulator, params: Params) -> Json:
    chat, message = _own_message(simulator, params)
    if not any(kind in message for kind in _MEDIA):
        raise bad_request("there is no caption in the message to edit")
    return _edit(simulator, chat, message, _CAPTION, caption_content(params) | inline_keyboard(params))


async def edit_message_media(simulator: Simulator, params: Params) -> Json:
    chat, message = _own_message(simulator, params)
    media = params.mapping("media")
    inner = Params(media, params.uploads)
    content = media_content(simulator, str(media.get("type")), inner, "media") | caption_content(inner)
    return _edit(simulator, chat, message, _TEXT + _CAPTION + _MEDIA, content | inline_keyboard(params))


async def edit_message_reply_markup(simulator: Simulator, params: Params) -> Json:
    chat, message = _own_message(simulator, params)
    return _edit(simulator, chat, message, (), inline_keyboard(params))


async def delete_message(simulator: Simulator, params: Params) -> bool:
    chat = known_chat(simulator, params)
    message_id = params.integer("message_id") or 0
    if message_id not in chat.messages:
        raise bad_request("message to delete not found")
    simulator.delete_message(chat, message_id)
    return True


async def delete_messages(simulator: Simulator, params: Params) -> bool:
    chat = known_chat(simulator, params)
    for message_id in map(as_integer, params.sequence("message_ids")):
        if message_id in chat.messages:
            simulator.delete_message(chat, message_id)
    return True


async def set_message_reaction(simulator: Simulator, params: Params) -> bool:
    chat = writable_chat(simulator, params)
    message_id = params.integer("message_id") or 0
    if message_id not in chat.messages:
        raise bad_request("message to react not found")
    reactions = chat.reactions.setdefault(message_id, {})
    reactions[simulator.config.bot_id] = params.mappings("reaction")
    simulator.changed(chat, "reaction", message_id=message_id, reactions=list(reactions.values()))
    return True


async def pin_chat_message(simulator: Simulator, params: Params) -> bool:
    chat = writable_chat(simulator, params)
    message_id = params.integer("message_id") or 0
    if message_id not in chat.messages:
        raise bad_request("message to pin not found")
    _set_pinned(simulator, chat, [*(known for known in chat.pinned if known != message_id), message_id])
    return True


async def unpin_chat_message(simulator: Simulator, params: Params) -> bool:
    chat = known_chat(simulator, params)
    message_id = params.integer("message_id") or (chat.pinned[-1] if chat.pinned else 0)
    _set_pinned(simulator, chat, [known for known in chat.pinned if known != message_id])
    return True


def _set_pinned(simulator: Simulator, chat: Chat, pinned: list[int]) -> None:
    chat.pinned = pinned
    simulator.changed(chat, "pinned", pinned=pinned)


def _own_message(simulator: Simulator, params: Params) -> tuple[Chat, Json]:
    if not params.text("message_id"):
        raise bad_request("message identifier is not specified")
    chat = writable_chat(simulator, params)
    message = chat.messages.get(params.integer("message_id") or 0)
    if message is None:
        raise bad_request("message to edit not found")
    if message["from"]["id"] != simulator.config.bot_id:
        raise bad_request("message can't be edited")
    return chat, message


def _edit(simulator: Simulator, chat: Chat, message: Json, replaced: tuple[str, ...], content: Json) -> Json:
    kept = {key: value for key, value in message.items() if key not in {*replaced, "reply_markup"}}
    edited = kept | content
    if edited == message:
        raise bad_request(_NOT_MODIFIED)
    edited["edit_date"] = simulator.now()
    simulator.replace_message(chat, edited)
    return edited


METHODS = {
    "editMessageText": edit_message_text,
    "editMessageCaption": edit_message_caption,
    "editMessageMedia": edit_message_media,
    "editMessageReplyMarkup": edit_message_reply_markup,
    "deleteMessage": delete_message,
    "deleteMessages": delete_messages,
    "setMessageReaction": set_message_reaction,
    "pinChatMessage": pin_chat_message,
    "unpinChatMessage": unpin_chat_message,
}
