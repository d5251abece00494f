"""A person's hands and eyes in the simulator, for scripts and tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx

from bot.standins.telegram.state import Json

_LONGEST_WAIT = 20.0


class SimulatorError(Exception):
    """The simulator refused; the text says why and what to do."""


@dataclass(frozen=True)
class SimulatedPerson:
    """Somebody who can write to the bot; a private chat has the person's `id`."""

    id: int
    first_name: str
    last_name: str | None = None
    username: str | None = None
    language_code: str | None = None


@dataclass(frozen=True)
class Button:
    text: str
    data: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class SimulatedMessage:
    """A message as it is now; `text` holds a caption too, times are seconds since the epoch."""

    chat_id: int
    id: int
    from_bot: bool
    text: str
    date: int
    edit_date: int | None
    buttons: tuple[tuple[Button, ...], ...]
    reactions: tuple[str, ...]
    #: The Bot API's `Message`.
    raw: Json = field(repr=False)

    @property
    def edited(self) -> bool:
        return self.edit_date is not None


@dataclass(frozen=True)
class TimelineStep:
    """What the service did at `at`, seconds since the epoch."""

    at: float
    stage: str
    detail: Any


@dataclass(frozen=True)
class BotCall:
    """One Bot API call; `status` is None if the connection was cut."""

    at: float
    method: str
    params: Json
    status: int | None


Predicate = Callable[[SimulatedMessage], bool]


class SimulatorClient:
    """Talks to a running simulator; use it as an async context manager.

    Every method raises SimulatorError if the simulator refuses, and httpx.TransportError if it cannot be reached.
    """

    def __init__(self, base_url: str) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, timeout=30, trust_env=False)

    async def __aenter__(self) -> SimulatorClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def new_user(
        self,
        *,
        user_id: int | None = None,
        first_name: str | None = None,
        last_name: str | None = None,
        username: str | None = None,
        language_code: str | None = "en",
    ) -> SimulatedPerson:
        """Make somebody; what is not given is drawn."""
        body = {
            "id": user_id,
            "first_name": first_name,
            "last_name": last_name,
            "username": username,
            "language_code": language_code,
        }
        return _person(await self._call("POST", "/sim/users", json=body))

    async def users(self) -> list[SimulatedPerson]:
        return [_person(item) for item in await self._call("GET", "/sim/users")]

    async def new_group(self, title: str, *members: SimulatedPerson) -> int:
        """The new group's chat id."""
        body = {"title": title, "member_ids": [member.id for member in members]}
        return int((await self._call("POST", "/sim/groups", json=body))["id"])

    async def say(
        self, user: SimulatedPerson, text: str, *, reply_to: int | None = None, chat_id: int | None = None
    ) -> SimulatedMessage:
        """Write to the bot, or into a group."""
        body = {"text": text, "reply_to": reply_to, "chat_id": chat_id}
        return _message({"message": await self._call("POST", f"/sim/users/{user.id}/messages", json=body)})

    async def send_file(
        self, user: SimulatedPerson, kind: str, name: str, content: bytes, *, caption: str = ""
    ) -> SimulatedMessage:
        """Send a file; `kind` is photo, document, voice, audio, video, animation or sticker."""
        answer = await self._call(
            "POST",
            f"/sim/users/{user.id}/files",
            data={"kind": kind, "caption": caption},
            files={"file": (name, content)},
        )
        return _message({"message": answer})

    async def edit(self, user: SimulatedPerson, message_id: int, text: str) -> SimulatedMessage:
        path = f"/sim/users/{user.id}/messages/{message_id}"
        return _message({"message": await self._call("PATCH", path, json={"text": text})})

    async def press(self, user: SimulatedPerson, message: SimulatedMessage, label: str) -> str:
        """Press the inline button with this text; the callback query's id."""
        for button in (button for row in message.buttons for button in row):
            if button.text == label and button.data is not None:
                body = {"message_id": message.id, "data": button.data, "chat_id": message.chat_id}
                return str((await self._call("POST", f"/sim/users/{user.id}/press", json=body))["callback_query_id"])
        raise SimulatorError(f"Message {message.id} has no button {label!r} to press.")

    async def react(self, user: SimulatedPerson, message_id: int, emoji: str | None) -> None:
        """React with an emoji, or take the reaction back (None)."""
        body = {"message_id": message_id, "emoji": emoji}
        await self._call("POST", f"/sim/users/{user.id}/reactions", json=body)

    async def block(self, user: SimulatedPerson) -> None:
        await self._call("PUT", f"/sim/users/{user.id}/block")

    async def unblock(self, user: SimulatedPerson) -> None:
        await self._call("DELETE", f"/sim/users/{user.id}/block")

    async def messages(self, chat: SimulatedPerson | int) -> list[SimulatedMessage]:
        """What is in a chat (a person's private one, or by id), in the order sent."""
        return (await self._read(chat, -1, 0))[1]

    async def wait_for_reply(
        self,
        user: SimulatedPerson | int,
        *,
        after: int = 0,
        timeout: float = 60,  # noqa: ASYNC109 - the error has to say what was seen
        predicate: Predicate = lambda message: True,
    ) -> SimulatedMessage:
        """The first message of the bot with an id above `after` that satisfies `predicate`, also after an edit.

        Raises TimeoutError after `timeout` seconds, saying what the bot had written until then.
        """
        version, seen = -1, list[SimulatedMessage]()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            left = deadline - loop.time()
            version, messages = await self._read(user, version, max(0.0, min(left, _LONGEST_WAIT)))
            seen = [message for message in messages if message.from_bot and message.id > after]
            for message in seen:
                if predicate(message):
                    return message
            if left <= 0:
                texts = [message.text for message in seen]
                raise TimeoutError(f"No such reply within {timeout} s; the bot had written {texts}.")

    async def timeline(self, chat: SimulatedPerson | int) -> list[TimelineStep]:
        items = await self._call("GET", f"/sim/chats/{_chat_id(chat)}/timeline")
        return [TimelineStep(item["at"], item["stage"], item["detail"]) for item in items]

    async def add_timeline(self, chat_id: int, stage: str, detail: Any = None, at: float | None = None) -> None:
        """Show a step of the service in this chat's timeline; `at` in seconds since the epoch, None: now."""
        body = {"chat_id": chat_id, "at": at, "stage": stage, "detail": detail}
        await self._call("POST", "/sim/timeline", json=body)

    async def inject_429(
        self, retry_after: int = 1, *, count: int = 1, methods: list[str] | None = None, chat_id: int | None = None
    ) -> None:
        """Answer the next `count` calls (of these methods, for this chat) with 429."""
        await self.inject("too_many_requests", retry_after=retry_after, count=count, methods=methods, chat_id=chat_id)

    async def inject_outage(self, seconds: float, kind: str = "bad_gateway") -> None:
        """Answer nothing for a while; `kind` is bad_gateway, cut or hang."""
        await self.inject(kind, count=None, seconds=seconds)

    async def inject(self, kind: str, **fields: Any) -> None:
        """Order a fault; kinds and fields as in `bot.standins.telegram.faults`."""
        await self._call("POST", "/sim/faults", json={"kind": kind, **fields})

    async def clear_faults(self) -> None:
        await self._call("DELETE", "/sim/faults")

    async def calls(self, method: str | None = None) -> list[BotCall]:
        """The bot's latest calls, but for getUpdates."""
        items = await self._call("GET", "/sim/calls", params={"method": method} if method else None)
        return [BotCall(item["at"], item["method"], item["params"], item["status"]) for item in items]

    async def reset(self) -> None:
        """Forget people, chats, files, faults and waiting updates."""
        await self._call("POST", "/sim/reset")

    async def _read(self, chat: SimulatedPerson | int, version: int, wait: float) -> tuple[int, list[SimulatedMessage]]:
        params = {"version": version, "wait": wait}
        answer = await self._call("GET", f"/sim/chats/{_chat_id(chat)}/messages", params=params)
        return int(answer["version"]), [_message(item) for item in answer["messages"]]

    async def _call(self, method: str, path: str, **arguments: Any) -> Any:
        answer = await self._http.request(method, path, **arguments)
        if not answer.is_success:
            detail = answer.json().get("detail") if "json" in answer.headers.get("content-type", "") else answer.text
            raise SimulatorError(f"{method} {path}: {detail}")
        return answer.json() if answer.content else None


def _chat_id(chat: SimulatedPerson | int) -> int:
    return chat if isinstance(chat, int) else chat.id


def _person(item: Json) -> SimulatedPerson:
    keys = ("last_name", "username", "language_code")
    return SimulatedPerson(item["id"], item["first_name"], **{key: item.get(key) for key in keys})


def _message(item: Json) -> SimulatedMessage:
    raw = item["message"]
    rows = raw.get("reply_markup", {}).get("inline_keyboard", [])
    return SimulatedMessage(
        chat_id=raw["chat"]["id"],
        id=raw["message_id"],
        from_bot=raw["from"]["is_bot"],
        text=raw.get("text", raw.get("caption", "")),
        date=raw["date"],
        edit_date=raw.get("edit_date"),
        buttons=tuple(
            tuple(Button(button["text"], button.get("callback_data"), button.get("url")) for button in row)
            for row in rows
        ),
        reactions=tuple(
            reaction["emoji"] for given in item.get("reactions", []) for reaction in given if "emoji" in reaction
        ),
        raw=raw,
    )


def _button(item: Json) -> Button:
    return Button(item["text"], item.get("callback_data"), item.get("url"))
