"""Telegram's limits on a bot, kept before Telegram has to: so many calls in all, so many to a chat."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

#: Chats in trouble since the last success that make it perhaps the bot's trouble, not theirs.
_CHATS_OF_AN_OUTAGE = 3
#: Seconds for which everybody is held where Telegram does answer: three people can cause that at any time.
_LONGEST_DOUBT = 2.0
_MANY_CHATS = 4096


@dataclass(frozen=True)
class Rate:
    """At most `calls` within any `seconds`."""

    calls: int
    seconds: float


@dataclass(frozen=True)
class Limits:
    """Telegram documents 30 a second in all and one a second to a chat, and lets a short burst through."""

    overall: Rate = Rate(30, 1.05)
    chat: Rate = Rate(5, 5.1)
    #: What a chat may have of calls that are worth nothing later.
    passing: Rate = Rate(10, 5.0)
    #: What a chat may have of calls that Telegram counts only in all: reactions, pins, deletions, menus.
    silent: Rate = Rate(10, 10.0)


@dataclass
class _Window:
    rate: Rate
    taken: deque[float] = field(default_factory=deque)
    held_until: float = 0.0

    def free(self, now: float) -> int:
        while self.taken and self.taken[0] <= now - self.rate.seconds:
            self.taken.popleft()
        return 0 if now < self.held_until else self.rate.calls - len(self.taken)

    def delay(self, now: float) -> float:
        """Seconds until a call is free."""
        if self.free(now) > 0:
            return 0.0
        full = self.taken[0] + self.rate.seconds if len(self.taken) >= self.rate.calls else now
        return max(full, self.held_until) - now

    def idle(self, now: float) -> bool:
        return self.free(now) == self.rate.calls


class Pacer:
    """Hands out calls within the limits, in turn between the chats.

    Each chat asks for one call at a time, and those that wait are served first come, first served: so a chat with two
    hundred messages waits one turn for each of them, and a chat with a single message waits one turn in all.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._overall = _Window(limits.overall)
        self._chats: dict[int, _Window] = {}
        self._passing: dict[int, _Window] = {}
        self._silent: dict[int, _Window] = {}
        self._turn = asyncio.Lock()
        self._waiting = 0
        #: Chats for which Telegram gave no answer since the last success, and those that it told to wait.
        self._unanswered: set[int] = set()
        self._troubled: set[int] = set()
        #: When Telegram last took a call (the clock's seconds).
        self.last_success = float("-inf")

    async def acquire(self, chat_id: int | None, *, counted: bool = True) -> None:
        """Wait for a call to the chat and take it; None: a call that is to no chat.

        Not `counted`: one that Telegram does not count in the chat, only in all. While everybody is in trouble, one
        call goes out to try it, and the others wait for what becomes of it.
        """
        while True:
            while (delay := self._chat_delay(chat_id, counted)) > 0:
                await self._sleep(delay)
            self._waiting += 1
            try:
                async with self._turn:
                    while (delay := self._overall.delay(self._clock())) > 0:
                        await self._sleep(delay)
                    if self._chat_delay(chat_id, counted) <= 0:
                        self._take(chat_id, counted)
                        if chat_id is not None and self._in_doubt():
                            self._hold_all(_LONGEST_DOUBT)
                        return
            finally:
                self._waiting -= 1

    def take_spare(self, chat_id: int, *, counted: bool = True) -> bool:
        """Take a call that nobody waits for, leaving the chat one for its next message; False: there is none."""
        now = self._clock()
        passing = _window(self._passing, chat_id, self._limits.passing, now)
        if self._waiting or self._overall.free(now) < 2 or passing.free(now) < 1:
            return False
        if counted and self._chat(chat_id).free(now) < 2:
            return False
        passing.taken.append(now)
        self._overall.taken.append(now)
        if counted:
            self._chat(chat_id).taken.append(now)
        return True

    def trouble(self, chat_id: int, seconds: float, *, unanswered: bool = False) -> None:
        """Telegram took no call for this chat: hold it for so long.

        When several chats are in trouble, everybody is held: for so long where Telegram gave no answer at all
        (`unanswered`), and but for a moment where it answered, as such a flood wait is the chats' own.
        """
        chat = self._chat(chat_id)
        chat.held_until = max(chat.held_until, self._clock() + seconds)
        (self._unanswered if unanswered else self._troubled).add(chat_id)
        if unanswered and len(self._unanswered) >= _CHATS_OF_AN_OUTAGE:
            self._hold_all(seconds)
        elif self._in_doubt():
            self._hold_all(min(seconds, _LONGEST_DOUBT))

    def success(self) -> None:
        """Telegram took a call: what trouble there is, is a chat's own."""
        self._unanswered.clear()
        self._troubled.clear()
        self._overall.held_until = 0.0
        self.last_success = self._clock()

    def now(self) -> float:
        """The clock's seconds."""
        return self._clock()

    def _in_doubt(self) -> bool:
        return max(len(self._unanswered), len(self._troubled)) >= _CHATS_OF_AN_OUTAGE

    def _hold_all(self, seconds: float) -> None:
        self._overall.held_until = max(self._overall.held_until, self._clock() + seconds)

    def _chat_delay(self, chat_id: int | None, counted: bool) -> float:
        if chat_id is None:
            return 0.0
        chat, now = self._chat(chat_id), self._clock()
        return chat.delay(now) if counted else max(chat.held_until - now, self._silent_of(chat_id).delay(now))

    def _take(self, chat_id: int | None, counted: bool) -> None:
        now = self._clock()
        self._overall.taken.append(now)
        if chat_id is not None:
            (self._chat(chat_id) if counted else self._silent_of(chat_id)).taken.append(now)

    def _silent_of(self, chat_id: int) -> _Window:
        return _window(self._silent, chat_id, self._limits.silent, self._clock())

    def _chat(self, chat_id: int) -> _Window:
        return _window(self._chats, chat_id, self._limits.chat, self._clock())


def _window(windows: dict[int, _Window], chat_id: int, rate: Rate, now: float) -> _Window:
    window = windows.get(chat_id)
    if window is None:
        if len(windows) >= _MANY_CHATS:
            for key in [key for key, kept in windows.items() if kept.idle(now)]:
                del windows[key]
        window = windows[chat_id] = _Window(rate)
    return window
