"""Delivery to a webhook, by the rules of Telegram's own server (github.com/tdlib/telegram-bot-api, WebhookActor)."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from bot.standins.telegram.clock import Clock
from bot.standins.telegram.config import SimulatorConfig
from bot.standins.telegram.state import Json
from bot.standins.telegram.updates import PendingUpdates, Update

_MAX_RETRY_AFTER = 3600
#: Methods that an answer to a webhook cannot call, besides all that begin with "get".
_NOT_IN_ANSWERS = frozenset({"setwebhook", "deletewebhook", "close", "logout"})


@dataclass(frozen=True)
class WebhookSettings:
    url: str
    secret_token: str = ""
    max_connections: int = 40
    ip_address: str | None = None
    has_custom_certificate: bool = False


class Webhook:
    """Updates go out in order, one in flight per queue; any 2xx acknowledges.

    After a failure an update is sent again at once, then after 2, 4, 8 … seconds up to a longest pause, or after the
    answer's `Retry-After`. Not more than twice `max_connections` queues are worked on, so that many failing chats
    hold up the others.
    """

    def __init__(self, config: SimulatorConfig, clock: Clock, updates: PendingUpdates) -> None:
        self.settings: WebhookSettings | None = None
        self.last_error: tuple[int, str] | None = None
        #: Carries out a call that came as an answer; set by who knows the methods.
        self.call: Callable[[str, Json], Awaitable[None]] | None = None
        self._config = config
        self._clock = clock
        self._updates = updates
        self._rng = random.SystemRandom()
        self._queues: dict[str, deque[Update]] = {}
        self._loaded = updates.last_id
        self._tasks: set[asyncio.Task[None]] = set()
        self._feeder: asyncio.Task[None] | None = None
        self._client: httpx.AsyncClient | None = None
        self._slots = asyncio.Semaphore(1)

    async def set(self, settings: WebhookSettings) -> None:
        """Deliver there from now on."""
        await self.remove()
        self.settings = settings
        self._slots = asyncio.Semaphore(settings.max_connections)
        self._client = httpx.AsyncClient(timeout=self._config.webhook_timeout, trust_env=False)
        self._feeder = asyncio.get_running_loop().create_task(self._feed(settings))

    async def remove(self) -> None:
        """Stop delivering; updates that were not acknowledged stay."""
        self.settings = None
        self.last_error = None
        tasks = [*self._tasks, *([self._feeder] if self._feeder else [])]
        self._feeder = None
        # A webhook may be removed by the very call that it answered with.
        tasks = [task for task in tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.forget_loaded()
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def close(self) -> None:
        await self.remove()

    def forget_loaded(self) -> None:
        """Begin again with what is waiting in `updates`."""
        for queue in self._queues.values():
            queue.clear()
        self._queues.clear()
        self._loaded = 0

    async def _feed(self, settings: WebhookSettings) -> None:
        while True:
            for update in self._updates:
                if len(self._queues) >= 2 * settings.max_connections:
                    break
                if update.id > self._loaded:
                    self._load(settings, update)
            await self._updates.bell.wait()

    def _load(self, settings: WebhookSettings, update: Update) -> None:
        self._loaded = update.id
        if update.queue in self._queues:
            self._queues[update.queue].append(update)
            return
        queue = self._queues[update.queue] = deque([update])
        task = asyncio.get_running_loop().create_task(self._work(settings, update.queue, queue))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, settings: WebhookSettings, name: str, queue: deque[Update]) -> None:
        while queue:
            update = queue.popleft()
            await self._deliver(settings, update)
            self._updates.forget(update.id)
        if self._queues.get(name) is queue:
            del self._queues[name]
        self._updates.bell.ring()

    async def _deliver(self, settings: WebhookSettings, update: Update) -> None:
        delay, failures = 1.0, 0
        while self._updates.holds(update.id):
            async with self._slots:
                error, retry_after = await self._post(settings, update)
            if error is None:
                return
            self.last_error = int(self._clock.time()), error
            pause = float(min(max(retry_after, 0), _MAX_RETRY_AFTER))
            if pause == 0 and failures:
                delay = min(delay * 2, self._rng.uniform(*self._config.longest_retry))
                pause = delay
            failures += 1
            if self._clock.time() + pause > update.expires_at:
                return
            await self._clock.sleep(pause)

    async def _post(self, settings: WebhookSettings, update: Update) -> tuple[str | None, int]:
        """What went wrong (None: it is acknowledged), and the seconds that the answer asks to wait."""
        assert self._client is not None  # noqa: S101 - set with the settings, gone only after the tasks
        headers = {"X-Telegram-Bot-Api-Secret-Token": settings.secret_token} if settings.secret_token else {}
        try:
            answer = await self._client.post(settings.url, json=update.as_update(), headers=headers)
        except httpx.TimeoutException:
            return "Read timeout expired", 0
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"Connection failed: {error}", 0
        if not answer.is_success:
            reason = f"Wrong response from the webhook: {answer.status_code} {answer.reason_phrase}"
            after = answer.headers.get("retry-after", "")
            return reason, int(after) if after.isdigit() else 0
        await self._carry_out(answer)
        return None, 0

    async def _carry_out(self, answer: httpx.Response) -> None:
        try:
            body: Any = answer.json()
        except ValueError:
            return
        method = body.get("method") if isinstance(body, dict) else None
        if not isinstance(method, str) or self.call is None:
            return
        if method.lower() in _NOT_IN_ANSWERS or method.lower().startswith("get"):
            return
        await self.call(method, {name: value for name, value in body.items() if name != "method"})
