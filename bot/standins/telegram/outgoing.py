"""What every send of the bot has in common: the chat, the text, the reply, the keyboard."""

from typing import Any

from bot.standins.telegram.entities import find_entities, trimmed, utf16_length
from bot.standins.telegram.errors import bad_request, forbidden
from bot.standins.telegram.html_markup import parse_html
from bot.standins.telegram.markdown_markup import parse_markdown, parse_markdown_v2
from bot.standins.telegram.params import Params, as_integer
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.state import Chat, Json

MAX_TEXT = 4096
MAX_CAPTION = 1024
_MAX_CALLBACK_DATA = 64
_PARSERS = {"html": parse_html, "markdown": parse_markdown, "markdownv2": parse_markdown_v2}


def writable_chat(simulator: Simulator, params: Params, name: str = "chat_id") -> Chat:
    """The chat to write to; raises ApiError 400 if it is unknown, 403 if the person has blocked the bot."""
    chat = known_chat(simulator, params, name)
    if chat.is_private and chat.members[0].blocked:
        raise forbidden("bot was blocked by the user")
    return chat


def known_chat(simulator: Simulator, params: Params, name: str = "chat_id") -> Chat:
    if not params.text(name):
        raise bad_request(f"{name} is empty")
    return simulator.chat(params.text(name))


def formatted(params: Params, text_name: str, entities_name: str) -> tuple[str, list[Json]]:
    """Text and entities, by `parse_mode` or as given; raises ApiError 400 if they cannot be read."""
    source, mode = params.text(text_name), params.text("parse_mode").lower()
    if mode:
        if mode not in _PARSERS:
            raise bad_request("unsupported parse_mode")
        text, entities = _PARSERS[mode](source)
    else:
        text, entities = source, _given_entities(params, entities_name)
    text, entities = trimmed(text, entities)
    return text, find_entities(text, entities)


def text_content(params: Params) -> Json:
    """`text` and `entities` of a message; raises ApiError 400 if it is empty or too long."""
    text, entities = formatted(params, "text", "entities")
    if not text:
        raise bad_request("message text is empty")
    if utf16_length(text) > MAX_TEXT:
        raise bad_request("message is too long")
    content: Json = {"text": text}
    if entities:
        content["entities"] = entities
    if options := params.mapping("link_preview_options"):
        content["link_preview_options"] = options
    return content


def caption_content(params: Params) -> Json:
    """`caption` and its entities, empty if there is none; raises ApiError 400 if it is too long."""
    caption, entities = formatted(params, "caption", "caption_entities")
    if utf16_length(caption) > MAX_CAPTION:
        raise bad_request("message caption is too long")
    content: Json = {"caption": caption} if caption else {}
    if caption and entities:
        content["caption_entities"] = entities
    return content


def inline_keyboard(params: Params) -> Json:
    """`reply_markup` of a message if it is an inline keyboard with buttons, else nothing."""
    rows = params.mapping("reply_markup").get("inline_keyboard")
    if not rows:
        return {}
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise bad_request('field "inline_keyboard" of the InlineKeyboardMarkup must be an Array of Arrays')
    for row in rows:
        for button in row:
            _check_button(button)
    return {"reply_markup": {"inline_keyboard": rows}}


def send(simulator: Simulator, chat: Chat, params: Params, content: Json) -> Json:
    """Send `content` from the bot, with the reply and the keyboard that `params` ask for."""
    extra = _reply(simulator, chat, params) | inline_keyboard(params)
    if params.flag("protect_content"):
        extra["has_protected_content"] = True
    _keep_reply_keyboard(simulator, chat, params)
    return simulator.new_message(chat, simulator.bot_user, content | extra)


def _given_entities(params: Params, name: str) -> list[Json]:
    entities = params.mappings(name)
    for entity in entities:
        places = (entity.get("offset"), entity.get("length"))
        if not isinstance(entity.get("type"), str) or not all(isinstance(place, int) for place in places):
            raise bad_request("can't parse MessageEntity: a type, an offset and a length are needed")
    return entities


def _check_button(button: Any) -> None:
    if not isinstance(button, dict) or not button.get("text"):
        raise bad_request("inline keyboard button text is empty")
    if "callback_data" in button:
        if not 1 <= len(str(button["callback_data"]).encode()) <= _MAX_CALLBACK_DATA:
            raise bad_request("BUTTON_DATA_INVALID")
    elif len(button) == 1:
        raise bad_request("text buttons are unallowed in the inline keyboard")


def _reply(simulator: Simulator, chat: Chat, params: Params) -> Json:
    wanted = params.mapping("reply_parameters") or {
        "message_id": params.integer("reply_to_message_id"),
        "allow_sending_without_reply": params.flag("allow_sending_without_reply"),
    }
    if not wanted.get("message_id"):
        return {}
    source = simulator.chat(wanted["chat_id"]) if wanted.get("chat_id") else chat
    message = source.messages.get(as_integer(wanted["message_id"]) or 0)
    if message is None or source is not chat:
        if wanted.get("allow_sending_without_reply"):
            return {}
        raise bad_request("message to be replied not found")
    reply: Json = {"reply_to_message": without_reply(message)}
    if wanted.get("quote"):
        reply["quote"] = {"text": wanted["quote"], "position": wanted.get("quote_position", 0), "is_manual": True}
    return reply


def without_reply(message: Json) -> Json:
    """A message as it is shown inside another one."""
    return {key: value for key, value in message.items() if key != "reply_to_message"}


def _keep_reply_keyboard(simulator: Simulator, chat: Chat, params: Params) -> None:
    markup = params.mapping("reply_markup")
    if markup.get("keyboard"):
        chat.reply_keyboard = markup
    elif markup.get("remove_keyboard"):
        chat.reply_keyboard = None
    else:
        return
    simulator.changed(chat, "keyboard", keyboard=chat.reply_keyboard)
