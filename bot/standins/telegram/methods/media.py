"""Sends with a file."""

import secrets
from collections.abc import Awaitable, Callable

from bot.standins.telegram.errors import bad_request
from bot.standins.telegram.media_content import MEDIA_KINDS, media_content
from bot.standins.telegram.outgoing import caption_content, send, writable_chat
from bot.standins.telegram.params import Params
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.state import Json


def _sender(kind: str) -> Callable[[Simulator, Params], Awaitable[Json]]:
    async def send_media(simulator: Simulator, params: Params) -> Json:
        chat = writable_chat(simulator, params)
        caption = caption_content(params)
        return send(simulator, chat, params, media_content(simulator, kind, params, kind) | caption)

    return send_media


async def send_media_group(simulator: Simulator, params: Params) -> list[Json]:
    chat = writable_chat(simulator, params)
    items = params.mappings("media")
    if not 2 <= len(items) <= 10:
        raise bad_request("there must be from 2 to 10 messages in an album")
    group = {"media_group_id": str(secrets.randbits(50))}
    contents = []
    for item in items:
        inner = Params(item, params.uploads)
        contents.append(media_content(simulator, str(item.get("type")), inner, "media") | caption_content(inner))
    return [send(simulator, chat, params, content | group) for content in contents]


METHODS = {
    **{"send" + kind.title().replace("_", ""): _sender(kind) for kind in MEDIA_KINDS},
    "sendMediaGroup": send_media_group,
}
