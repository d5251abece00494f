"""Bodies of the control API."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bot.standins.telegram.faults import FaultKind


class Body(BaseModel):
    """A misspelt field is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")


class NewPerson(Body):
    id: int | None = Field(default=None, gt=0, lt=2**52)
    first_name: str | None = Field(default=None, min_length=1, max_length=64)
    last_name: str | None = Field(default=None, max_length=64)
    username: str | None = Field(default=None, pattern=r"^[A-Za-z]\w{3,31}$")
    language_code: str | None = "en"


class NewGroup(Body):
    title: str = Field(min_length=1, max_length=128)
    member_ids: list[int]


class Said(Body):
    text: str
    chat_id: int | None = None
    reply_to: int | None = None
    entities: list[dict[str, Any]] = []


class Edited(Body):
    text: str
    chat_id: int | None = None


class Pressed(Body):
    message_id: int
    data: str
    chat_id: int | None = None


class Reacted(Body):
    message_id: int
    emoji: str | None = None
    chat_id: int | None = None


class TimelineEntry(Body):
    chat_id: int
    #: Seconds since the epoch; None: now.
    at: float | None = None
    stage: str
    detail: Any = None


class NewFault(Body):
    """Fields as in `faults.Fault`."""

    kind: FaultKind
    count: int | None = Field(default=1, ge=1)
    seconds: float | None = Field(default=None, gt=0)
    methods: list[str] | None = None
    chat_id: int | None = None
    retry_after: int = Field(default=1, ge=1)
    delay: float = Field(default=1.0, ge=0)
    status: int = Field(default=400, ge=400, le=599)
    description: str = "Bad Request"
