"""What goes wrong on request, for one skill or for all."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

#: In the place of a name: every request.
EVERYTHING = "*"


class Fault(BaseModel):
    """What a skill's requests meet; several at once where they go together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Answered instead: 429, 500, 503 …
    status: int | None = Field(default=None, ge=400, le=599)
    #: `Retry-After`, seconds; None: the answer says nothing of it.
    retry_after: int | None = None
    #: 200, and a body that is none of the API's answers.
    garbage: bool = False
    #: 200, and this JSON in place of the answer.
    answer: dict[str, Any] | None = None
    #: Put over what is said of the skill in an answer about verdicts.
    verdict: dict[str, Any] = Field(default_factory=dict)
    #: The archive has other bytes than before, and the list of files with it.
    changed: bool = False
    #: Milliseconds before each answer.
    delay_ms: int = Field(default=0, ge=0, le=60_000)
