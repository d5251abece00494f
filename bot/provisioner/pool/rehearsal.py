"""The first turn of a member, for nobody: it loads what OpenClaw loads only then, and leaves an empty session."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from bot.credentials import FrontCredentials
from bot.nobody import NOBODY
from bot.provisioner.gateway import Gateway, GatewayError

_log = structlog.get_logger(__name__)

#: Seconds for each of its steps; a first turn takes five, and several times that on a busy machine.
STEP_WITHIN = 120.0
_LOOK_EVERY = 0.25
#: Seconds between two questions whether it would hold still, of which OpenClaw takes 30 a minute.
_ASK_EVERY = 3.0
#: Telegram's own numbers of updates are far above.
_NUMBERS = 1_000_000


class WarmupFailed(Exception):
    """The member did not get through its first turn; the message says how far it came."""


async def warm(gateway: Gateway, credentials: FrontCredentials, instance_id: str) -> None:
    """A turn as nobody, then a new session; returns once nothing of the turn is in the session and nothing runs.

    Raises :class:`WarmupFailed`. It may be repeated.
    """
    began = time.monotonic()
    try:
        await _rehearse(gateway, credentials.webhook_secret)
    except GatewayError as error:
        raise WarmupFailed(f"Its first turn failed: {error}") from None
    _log.info("a member of the pool is warm", instance=instance_id, seconds=round(time.monotonic() - began, 1))


async def _rehearse(gateway: Gateway, secret: str) -> None:
    if not await _spoken_sessions(gateway):
        await _say(gateway, secret, "Hello")
        await _until(lambda: _spoken_sessions(gateway), "The model's answer")
        # What comes before a turn has ended joins it.
        await _until(lambda: _is_idle(gateway), "The end of the turn", _ASK_EVERY)
    await _say(gateway, secret, "/new")

    async def forgotten() -> bool:
        return not await _spoken_sessions(gateway)

    await _until(forgotten, "A new session")
    await _until(lambda: _is_idle(gateway), "The end of what a new session begins", _ASK_EVERY)


async def _say(gateway: Gateway, webhook_secret: str, text: str) -> None:
    """Write to it as nobody, in Telegram's shape."""
    message: dict[str, Any] = {
        "message_id": secrets.randbelow(_NUMBERS) + 1,
        "date": int(time.time()),
        "chat": {"id": NOBODY, "type": "private", "first_name": "Nobody"},
        "from": {"id": NOBODY, "is_bot": False, "first_name": "Nobody"},
        "text": text,
    }
    if text.startswith("/"):
        message["entities"] = [{"type": "bot_command", "offset": 0, "length": len(text)}]
    update = {"update_id": secrets.randbelow(_NUMBERS) + 1, "message": message}
    await gateway.hand_over(json.dumps(update).encode(), webhook_secret)


async def _spoken_sessions(gateway: Gateway) -> set[str]:
    """The sessions in which the model has answered."""
    status = await gateway.call("status", {})
    sessions = status.get("sessions") if isinstance(status, dict) else None
    recent = sessions.get("recent") if isinstance(sessions, dict) else None
    if not isinstance(recent, list):
        raise WarmupFailed("OpenClaw's status does not list its sessions.")
    return {str(each.get("sessionId")) for each in recent if isinstance(each, dict) and each.get("outputTokens")}


async def _is_idle(gateway: Gateway) -> bool:
    """Whether it has nothing to do: it would let itself be frozen."""
    suspension = await gateway.suspend(f"zaki-rehearsal-{secrets.token_hex(4)}")
    if suspension.id is None:
        return False
    await gateway.resume(suspension.id)
    return True


async def _until(look: Callable[[], Awaitable[Any]], what: str, every: float = _LOOK_EVERY) -> Any:
    """Look until there is something to see; on a busy machine a look may go unanswered."""
    unanswered: GatewayError | None = None
    try:
        async with asyncio.timeout(STEP_WITHIN):
            while True:
                try:
                    if found := await look():
                        return found
                    unanswered = None
                except GatewayError as error:
                    unanswered = error
                await asyncio.sleep(every)
    except TimeoutError:
        why = f" {unanswered}" if unanswered is not None else ""
        raise WarmupFailed(f"{what} did not come within {STEP_WITHIN:.0f} seconds.{why}") from None
