"""How the bot gets its updates: polling, webhook, button answers, files."""

import re

from bot.standins.telegram.errors import bad_request, conflict
from bot.standins.telegram.params import Params
from bot.standins.telegram.polling import WEBHOOK_ACTIVE, WEBHOOK_SET
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.state import Json
from bot.standins.telegram.webhook import WebhookSettings

_MAX_DOWNLOAD = 20 * 2**20
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")


async def get_updates(simulator: Simulator, params: Params) -> list[Json]:
    if simulator.webhook.settings is not None:
        raise conflict(WEBHOOK_ACTIVE)
    simulator.updates.allow(_allowed_updates(params))
    return await simulator.polling.get(params.integer("offset"), params.integer("limit"), params.integer("timeout"))


async def set_webhook(simulator: Simulator, params: Params) -> bool:
    url, secret = params.text("url"), params.text("secret_token")
    if not url:
        return await delete_webhook(simulator, params)
    if not re.match(r"https?://[^/]", url):
        raise bad_request("bad webhook: An HTTPS URL must be provided for webhook")
    if secret and not _SECRET.fullmatch(secret):
        raise bad_request("secret token contains unallowed characters")
    if params.flag("drop_pending_updates"):
        simulator.updates.clear()
    simulator.updates.allow(_allowed_updates(params))
    simulator.polling.interrupt(WEBHOOK_SET)
    await simulator.webhook.set(
        WebhookSettings(
            url=url,
            secret_token=secret,
            max_connections=min(max(params.integer("max_connections") or 40, 1), 100),
            ip_address=params.text("ip_address") or None,
            has_custom_certificate=params.upload("certificate") is not None,
        )
    )
    return True


async def delete_webhook(simulator: Simulator, params: Params) -> bool:
    if params.flag("drop_pending_updates"):
        simulator.updates.clear()
    await simulator.webhook.remove()
    return True


async def get_webhook_info(simulator: Simulator, params: Params) -> Json:
    settings = simulator.webhook.settings
    info: Json = {
        "url": settings.url if settings else "",
        "has_custom_certificate": bool(settings and settings.has_custom_certificate),
        "pending_update_count": len(simulator.updates),
    }
    if settings:
        info["max_connections"] = settings.max_connections
        if settings.ip_address:
            info["ip_address"] = settings.ip_address
    if simulator.webhook.last_error:
        info["last_error_date"], info["last_error_message"] = simulator.webhook.last_error
    if simulator.updates.allowed is not None:
        info["allowed_updates"] = sorted(simulator.updates.allowed)
    return info


async def answer_callback_query(simulator: Simulator, params: Params) -> bool:
    pressed = simulator.callbacks.answered(params.text("callback_query_id"))
    simulator.events.publish(
        "callback_answer",
        pressed.chat_id,
        user_id=pressed.user_id,
        callback_query_id=params.text("callback_query_id"),
        text=params.text("text"),
        show_alert=params.flag("show_alert"),
        url=params.text("url"),
    )
    return True


async def get_file(simulator: Simulator, params: Params) -> Json:
    stored = simulator.files.by_id(params.text("file_id"))
    if stored is None:
        raise bad_request("invalid file_id")
    if len(stored.content) > _MAX_DOWNLOAD:
        raise bad_request("file is too big")
    return {
        "file_id": stored.file_id,
        "file_unique_id": stored.unique_id,
        "file_size": len(stored.content),
        "file_path": stored.path,
    }


def _allowed_updates(params: Params) -> list[str] | None:
    if not params.text("allowed_updates"):
        return None
    return [str(kind) for kind in params.sequence("allowed_updates")]


METHODS = {
    "getUpdates": get_updates,
    "setWebhook": set_webhook,
    "deleteWebhook": delete_webhook,
    "getWebhookInfo": get_webhook_info,
    "answerCallbackQuery": answer_callback_query,
    "getFile": get_file,
}
