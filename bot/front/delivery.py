"""Hands updates over to instances: the bytes as Telegram sent them, to the gateway's own webhook."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

import aiohttp

from bot.credentials import FrontKey
from bot.endpoints import WEBHOOK_PATH, WEBHOOK_PORT
from bot.store.tables import Instance

#: A bare 200 may come from anything in between; this header only from the gateway's own durable queue.
_ACCEPTED_HEADER = "x-openclaw-delivery-accepted"
_ACCEPTED = "durable"

#: Deliveries under way at a time, one for each person at most.
MOST_AT_ONCE = 128
#: Seconds; a frozen gateway takes the connection and never answers.
_TIMEOUT = aiohttp.ClientTimeout(total=10.0, sock_connect=3.0)
#: The gateway closes idle connections after 5 s.
_IDLE = 4.0

#: Seconds between two attempts, at first and at most.
_FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0


class Outcome(StrEnum):
    """What became of a hand-over."""

    ACCEPTED = "accepted"  #: the instance keeps it
    LATER = "later"  #: try again
    NEVER = "never"  #: the instance will never take this one


@dataclass(frozen=True)
class Answer:
    """An outcome, and one sentence why where it is not `ACCEPTED`."""

    outcome: Outcome
    reason: str = ""


class Delivery:
    """The client side of the instances' webhooks, with connections of its own so that nothing else holds it up.

    aiohttp, because httpx looks at every open connection for each request: with 50 instances that was three quarters
    of the time that a delivery takes.
    """

    def __init__(self, key: FrontKey, port: int = WEBHOOK_PORT) -> None:
        """`port` is the instances'; tests have their stand-ins on another."""
        self._key = key
        self._port = port
        self._session: aiohttp.ClientSession | None = None

    async def hand_over(self, instance: Instance, body: bytes) -> Answer:
        """Post one update; repeats are harmless, because the gateway drops an `update_id` that it knows."""
        secret = self._key.derive(instance.id, instance.credentials_epoch).webhook_secret
        headers = {"Content-Type": "application/json", "X-Telegram-Bot-Api-Secret-Token": secret}
        url = f"http://{instance.address}:{self._port}{WEBHOOK_PATH}"
        try:
            # What an instance writes beyond its headers is not read: it could have no end.
            async with self._client().post(url, data=body, headers=headers, allow_redirects=False) as answer:
                status, accepted = answer.status, answer.headers.get(_ACCEPTED_HEADER)
        except (aiohttp.ClientError, TimeoutError) as error:
            return Answer(Outcome.LATER, f"The instance gave no answer ({type(error).__name__}).")
        if status == 200 and accepted == _ACCEPTED:
            return Answer(Outcome.ACCEPTED)
        if status in (400, 413):
            return Answer(Outcome.NEVER, f"The instance refused the update with status {status}.")
        return Answer(Outcome.LATER, f"The instance answered {status} without taking the update over.")

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=MOST_AT_ONCE, keepalive_timeout=_IDLE)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar()
            )
        return self._session


def pause_after(attempts: int) -> float:
    """Seconds to wait after so many failed attempts: longer each time, and not the same for everybody."""
    longest = min(LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempts - 1, 10))
    return longest * random.uniform(0.75, 1.0)  # noqa: S311 - no secret depends on it
