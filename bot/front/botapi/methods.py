"""The methods that an instance may call, with the fields that we know of each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Way(Enum):
    """How a call is carried out."""

    QUEUED = auto()  #: through the outbox: it reaches Telegram, late if need be
    PASSING = auto()  #: now or never: worth nothing later
    ASKED = auto()  #: its answer is what is wanted, so there is nothing to queue
    OWN = auto()  #: answered by Zaki


@dataclass(frozen=True)
class Method:
    """A method by the name that Telegram's reference writes."""

    name: str
    way: Way
    fields: frozenset[str]
    #: Fields that may be a file of the request itself.
    files: frozenset[str] = frozenset()
    #: Its `chat_id` must be there.
    in_chat: bool = True
    #: Seconds after which an instance stops waiting is more than this.
    wait: float = 10.0

    @property
    def largest(self) -> int:
        """Bytes that a request may have without its files: several times what Telegram takes."""
        return _LARGEST_LONG if self.name in _LONG or "rich_message" in self.fields else _LARGEST


#: A text of 4,096 characters, written as \uXXXX, with a full keyboard and entities.
_LARGEST = 65_536
#: Rich messages are many times longer; a menu has 100 descriptions of 256 characters.
_LARGEST_LONG = 262_144
_LONG = frozenset({"setMyCommands", "sendMediaGroup", "editMessageMedia"})


def find(name: str) -> Method | None:
    """The method, whichever way its letters are cased: Telegram does not look at the case either."""
    return _METHODS.get(name.lower())


_CHAT = "chat_id message_thread_id"
_SENT = f"""{_CHAT} direct_messages_topic_id disable_notification protect_content message_effect_id reply_parameters
    reply_to_message_id allow_sending_without_reply reply_markup"""
_TEXT = "text parse_mode entities link_preview_options disable_web_page_preview"
_CAPTION = "caption parse_mode caption_entities show_caption_above_media"
_PLACE = "latitude longitude horizontal_accuracy heading proximity_alert_radius live_period"
_EDITED = "chat_id message_id reply_markup"

_METHODS: dict[str, Method] = {}


def _add(name: str, way: Way, fields: str, *, files: str = "", in_chat: bool = True, wait: float = 10.0) -> None:
    known = frozenset(fields.split())
    sent = frozenset(files.split())
    _METHODS[name.lower()] = Method(name, way, known | sent, sent, in_chat, wait)


def _add_all() -> None:
    queued, passing, asked, own = Way.QUEUED, Way.PASSING, Way.ASKED, Way.OWN

    _add("sendMessage", queued, f"{_SENT} {_TEXT}")
    _add("sendRichMessage", queued, f"{_SENT} rich_message")
    _add("sendPhoto", queued, f"{_SENT} {_CAPTION} has_spoiler", files="photo")
    _add("sendAudio", queued, f"{_SENT} {_CAPTION} duration performer title", files="audio thumbnail")
    _add("sendDocument", queued, f"{_SENT} {_CAPTION} disable_content_type_detection", files="document thumbnail")
    _add(
        "sendVideo",
        queued,
        f"{_SENT} {_CAPTION} duration width height start_timestamp has_spoiler supports_streaming",
        files="video thumbnail cover",
    )
    _add("sendAnimation", queued, f"{_SENT} {_CAPTION} duration width height has_spoiler", files="animation thumbnail")
    _add("sendVoice", queued, f"{_SENT} {_CAPTION} duration", files="voice")
    _add("sendVideoNote", queued, f"{_SENT} duration length", files="video_note thumbnail")
    _add("sendSticker", queued, f"{_SENT} emoji", files="sticker")
    _add("sendMediaGroup", queued, f"{_SENT} media")
    _add("sendLocation", queued, f"{_SENT} {_PLACE}")
    _add(
        "sendVenue",
        queued,
        f"""{_SENT} latitude longitude title address foursquare_id foursquare_type google_place_id
        google_place_type""",
    )
    _add("sendContact", queued, f"{_SENT} phone_number first_name last_name vcard")
    _add("sendDice", queued, f"{_SENT} emoji")
    _add(
        "sendPoll",
        queued,
        f"""{_SENT} question question_parse_mode question_entities options is_anonymous type allows_multiple_answers
        correct_option_id explanation explanation_parse_mode explanation_entities open_period close_date is_closed""",
    )
    _add("forwardMessage", queued, f"{_SENT} from_chat_id message_id video_start_timestamp")
    _add("forwardMessages", queued, f"{_SENT} from_chat_id message_ids")
    _add("copyMessage", queued, f"{_SENT} {_CAPTION} from_chat_id message_id video_start_timestamp")
    _add("copyMessages", queued, f"{_SENT} from_chat_id message_ids remove_caption")

    _add("editMessageText", queued, f"{_EDITED} {_TEXT} rich_message")
    _add("editMessageCaption", queued, f"{_EDITED} {_CAPTION}")
    _add("editMessageMedia", queued, f"{_EDITED} media")
    _add("editMessageReplyMarkup", queued, _EDITED)
    _add("editMessageLiveLocation", queued, f"{_EDITED} {_PLACE}")
    _add("stopMessageLiveLocation", queued, _EDITED)
    _add("deleteMessage", queued, "chat_id message_id")
    _add("deleteMessages", queued, "chat_id message_ids")
    # OpenClaw itself waits 10 s for this one.
    _add("setMessageReaction", queued, "chat_id message_id reaction is_big", wait=7.0)
    _add("pinChatMessage", queued, "chat_id message_id disable_notification")
    _add("unpinChatMessage", queued, "chat_id message_id")
    _add("unpinAllChatMessages", queued, "chat_id")
    _add("editForumTopic", queued, f"{_CHAT} name icon_custom_emoji_id")
    _add("closeForumTopic", queued, _CHAT)
    _add("reopenForumTopic", queued, _CHAT)
    _add("deleteForumTopic", queued, _CHAT)
    _add("unpinAllForumTopicMessages", queued, _CHAT)

    _add("sendChatAction", passing, f"{_CHAT} action")
    _add("sendMessageDraft", passing, f"{_CHAT} draft_id text parse_mode entities")
    _add("sendRichMessageDraft", passing, f"{_CHAT} draft_id rich_message")
    _add("answerCallbackQuery", passing, "callback_query_id text show_alert cache_time", in_chat=False)

    _add("createForumTopic", asked, "chat_id name icon_color icon_custom_emoji_id")
    _add("stopPoll", asked, _EDITED)
    _add("getChat", asked, "chat_id")
    _add("getChatMember", asked, "chat_id user_id")
    _add("getUserProfilePhotos", asked, "user_id offset limit", in_chat=False)
    _add("getForumTopicIconStickers", asked, "", in_chat=False)

    _add("getFile", own, "file_id", in_chat=False, wait=25.0)
    _add("getMe", own, "", in_chat=False)
    _add(
        "setWebhook",
        own,
        "url ip_address max_connections allowed_updates drop_pending_updates secret_token",
        in_chat=False,
    )
    _add("deleteWebhook", own, "drop_pending_updates", in_chat=False)
    _add("getWebhookInfo", own, "", in_chat=False)
    _add("getUpdates", own, "offset limit timeout allowed_updates", in_chat=False)
    _add("setMyCommands", own, "commands scope language_code", in_chat=False)
    _add("deleteMyCommands", own, "scope language_code", in_chat=False)
    _add("getMyCommands", own, "scope language_code", in_chat=False)


_add_all()
