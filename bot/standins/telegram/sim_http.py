"""The people's side over HTTP, under `/sim`: for the chat page, `SimulatorClient` and curl."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, HTTPException, Request, UploadFile
from fastapi.responses import Response, StreamingResponse

from bot.standins.telegram import userside
from bot.standins.telegram.commands import commands_for
from bot.standins.telegram.faults import Fault
from bot.standins.telegram.params import Upload
from bot.standins.telegram.sim_models import (
    Edited,
    NewFault,
    NewGroup,
    NewPerson,
    Pressed,
    Reacted,
    Said,
    TimelineEntry,
)
from bot.standins.telegram.simulator import Simulator
from bot.standins.telegram.state import Chat, Json, Person

_MAX_WAIT = 60.0
#: What a browser may show inside the page; all else is downloaded, so that no upload runs as a page of ours.
_SHOWN = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "audio/ogg",
        "audio/mpeg",
        "audio/mp4",
        "audio/webm",
        "audio/wav",
        "video/mp4",
        "video/webm",
    }
)


async def same_origin(request: Request) -> None:
    """Another site's page in the same browser must not write in somebody's name."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "This request comes from another site's page; use the chat page itself.")


def sim_router(simulator: Simulator) -> APIRouter:
    router = APIRouter(prefix="/sim", dependencies=[Depends(same_origin)])

    def person(user_id: int) -> Person:
        return userside.person_by_id(simulator, user_id)

    def chat(chat_id: int) -> Chat:
        return userside.chat_by_id(simulator, chat_id)

    def chat_or_private(chat_id: int | None) -> Chat | None:
        return None if chat_id is None else chat(chat_id)

    Who = Annotated[Person, Depends(person)]
    Where = Annotated[Chat, Depends(chat)]

    @router.get("/state")
    async def state() -> Json:
        """The bot, everybody here, and the event id to go on from."""
        return {
            "bot": simulator.bot_user | {"description": simulator.profile.descriptions.get("", "")},
            "people": [_person(someone) for someone in simulator.people.values()],
            "groups": [known.as_chat() for known in simulator.chats.values() if not known.is_private],
            "faults": simulator.faults.listing(),
            "event_id": simulator.events.position,
        }

    @router.get("/users")
    async def list_people() -> list[Json]:
        return [_person(someone) for someone in simulator.people.values()]

    @router.post("/users", status_code=201)
    async def new_person(body: NewPerson) -> Json:
        return _person(
            userside.add_person(simulator, body.id, body.first_name, body.last_name, body.username, body.language_code)
        )

    @router.post("/groups", status_code=201)
    async def new_group(body: NewGroup) -> Json:
        return userside.add_group(simulator, body.title, body.member_ids).as_chat()

    @router.post("/users/{user_id}/messages", status_code=201)
    async def say(who: Who, body: Said) -> Json:
        where = chat_or_private(body.chat_id)
        return userside.say(simulator, who, body.text, where, body.reply_to, body.entities)

    @router.post("/users/{user_id}/files", status_code=201)
    async def send_file(
        who: Who,
        file: UploadFile,
        kind: Annotated[Literal["photo", "document", "voice", "audio", "video", "animation", "sticker"], Form()],
        caption: Annotated[str, Form()] = "",
        chat_id: Annotated[int | None, Form()] = None,
        reply_to: Annotated[int | None, Form()] = None,
    ) -> Json:
        upload = Upload(file.filename or "file", await file.read(), file.content_type)
        return userside.send_file(simulator, who, kind, upload, caption, chat_or_private(chat_id), reply_to)

    @router.patch("/users/{user_id}/messages/{message_id}")
    async def edit(who: Who, message_id: int, body: Edited) -> Json:
        return userside.edit(simulator, who, message_id, body.text, chat_or_private(body.chat_id))

    @router.post("/users/{user_id}/press")
    async def press(who: Who, body: Pressed) -> Json:
        where = chat_or_private(body.chat_id)
        return {"callback_query_id": userside.press(simulator, who, body.message_id, body.data, where)}

    @router.post("/users/{user_id}/reactions", status_code=204)
    async def react(who: Who, body: Reacted) -> None:
        userside.react(simulator, who, body.message_id, body.emoji, chat_or_private(body.chat_id))

    @router.put("/users/{user_id}/block", status_code=204)
    async def block(who: Who) -> None:
        userside.set_blocked(simulator, who, True)

    @router.delete("/users/{user_id}/block", status_code=204)
    async def unblock(who: Who) -> None:
        userside.set_blocked(simulator, who, False)

    @router.get("/chats/{chat_id}")
    async def show_chat(where: Where) -> Json:
        """A chat with its messages and timeline, the menu's commands and the bot's keyboard."""
        language = where.members[0].language_code
        menu_buttons = simulator.profile.menu_buttons
        return {
            "chat": where.as_chat(),
            "version": where.version,
            "messages": _messages(where),
            "timeline": where.timeline,
            "commands": commands_for(simulator.profile, where, language),
            "menu_button": menu_buttons.get(where.id) or menu_buttons.get(None),
            "keyboard": where.reply_keyboard,
            "pinned": where.pinned,
            "blocked": where.is_private and where.members[0].blocked,
        }

    @router.get("/chats/{chat_id}/messages")
    async def list_messages(where: Where, version: int = -1, wait: float = 0) -> Json:
        """Messages in the order sent; with `version`, waits up to `wait` seconds for anything newer than that."""
        loop_end = simulator.events.now() + min(wait, _MAX_WAIT)
        while where.version <= version and (left := loop_end - simulator.events.now()) > 0:
            if not await simulator.events.wait(left) or simulator.events.closed:
                break
        return {"version": where.version, "messages": _messages(where)}

    @router.get("/chats/{chat_id}/timeline")
    async def list_timeline(where: Where) -> list[Json]:
        return where.timeline

    @router.post("/timeline", status_code=204)
    async def add_timeline_entry(body: TimelineEntry) -> None:
        """What the service behind the bot did for this chat, and when."""
        at = simulator.clock.time() if body.at is None else body.at
        userside.add_timeline_entry(simulator, chat(body.chat_id), at, body.stage, body.detail)

    @router.get("/faults")
    async def list_faults() -> list[Json]:
        return simulator.faults.listing()

    @router.post("/faults", status_code=204)
    async def order_fault(body: NewFault) -> None:
        simulator.faults.order(Fault(**body.model_dump()))
        simulator.events.publish("faults", faults=simulator.faults.listing())

    @router.delete("/faults", status_code=204)
    async def clear_faults() -> None:
        simulator.faults.clear()
        simulator.events.publish("faults", faults=[])

    @router.get("/calls")
    async def list_calls(method: str | None = None) -> list[Json]:
        """The bot's latest calls, but for getUpdates."""
        wanted = (method or "").lower()
        return [call for call in simulator.calls if not wanted or call["method"].lower() == wanted]

    @router.post("/reset", status_code=204)
    async def reset() -> None:
        simulator.reset()

    @router.get("/files/{unique_id}")
    async def show_file(unique_id: str) -> Response:
        stored = simulator.files.by_unique_id(unique_id)
        if stored is None:
            raise userside.UnknownError("There is no such file; the simulator forgets files when it restarts.")
        shown = stored.mime_type in _SHOWN
        media_type = stored.mime_type if shown else "application/octet-stream"
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=86400"}
        if not shown:
            headers["Content-Disposition"] = "attachment"
        return Response(stored.content, media_type=media_type, headers=headers)

    @router.get("/events")
    async def events(request: Request, last_event_id: str | None = None) -> StreamingResponse:
        """Server-Sent Events; goes on after the `Last-Event-ID` header or the `last_event_id` in the query."""
        start = request.headers.get("last-event-id") or last_event_id
        return StreamingResponse(
            simulator.events.stream(start), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    return router


def _person(person: Person) -> Json:
    return person.as_user() | {"blocked": person.blocked}


def _messages(chat: Chat) -> list[Json]:
    return [
        {"message": message, "reactions": list(chat.reactions.get(message_id, {}).values())}
        for message_id, message in chat.messages.items()
    ]
