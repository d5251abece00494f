"""The part of a message that holds a file."""

from typing import Any

from bot.standins.telegram.errors import ApiError, bad_request
from bot.standins.telegram.files import StoredFile
from bot.standins.telegram.params import Params, Upload
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.state import Json

_MAX_UPLOAD = 50 * 2**20
_MAX_PHOTO = 10 * 2**20
MEDIA_KINDS = frozenset({"photo", "document", "audio", "voice", "video", "video_note", "animation", "sticker"})


def media_content(simulator: Simulator, kind: str, params: Params, name: str) -> Json:
    """The file in parameter `name`, uploaded or by a known `file_id`, as a message of that kind holds it.

    Raises ApiError 400 if there is no such file (the simulator fetches nothing from a URL), 413 if it is too big.
    """
    if kind not in MEDIA_KINDS:
        raise bad_request(f'type "{kind}" is unsupported')
    upload = params.upload(name)
    if upload is not None:
        return described(simulator.files.store(kind, _checked(kind, upload)), params)
    value = params.text(name)
    if not value:
        raise bad_request(f"there is no {kind} in the request")
    if value.startswith(("http://", "https://")):
        raise bad_request("failed to get HTTP URL content")
    stored = simulator.files.by_id(value)
    if stored is None:
        raise bad_request("wrong remote file identifier specified: Wrong string length")
    return described(stored, params)


def described(stored: StoredFile, params: Params) -> Json:
    """`photo`, `document` and so on, with the sizes and names that Telegram adds."""
    width, height = stored.dimensions or (params.integer("width") or 320, params.integer("height") or 320)
    file: Json = {
        "file_id": stored.file_id,
        "file_unique_id": stored.unique_id,
        "file_size": len(stored.content),
    }
    extra: dict[str, Any] = {"mime_type": stored.mime_type, "file_name": stored.name}
    duration = {"duration": params.integer("duration") or 0}
    match stored.kind:
        case "photo":
            return {"photo": [file | {"width": width, "height": height}]}
        case "document":
            return {"document": file | extra}
        case "voice":
            return {"voice": file | duration | {"mime_type": stored.mime_type}}
        case "audio":
            tags = {key: params.text(key) for key in ("title", "performer") if params.text(key)}
            return {"audio": file | duration | extra | tags}
        case "sticker":
            form = {"type": "regular", "is_animated": False, "is_video": False}
            return {"sticker": file | form | {"width": width, "height": height}}
        case "video_note":
            return {"video_note": file | duration | {"length": width}}
        case "animation":
            # Telegram adds the document for clients that know no animations.
            animation = file | extra | duration | {"width": width, "height": height}
            return {"animation": animation, "document": file | extra}
        case _:
            return {"video": file | extra | duration | {"width": width, "height": height}}


def _checked(kind: str, upload: Upload) -> Upload:
    if not upload.content:
        raise bad_request("file must be non-empty")
    if len(upload.content) > (_MAX_PHOTO if kind == "photo" else _MAX_UPLOAD):
        raise ApiError(413, "Request Entity Too Large")
    return upload
