"""Why an instance does not get what it asks for."""

from __future__ import annotations

import math


class SkillError(Exception):
    """The answer is this status, with one sentence for whoever asked."""

    status = 500

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {}


class BadRequest(SkillError):
    """The request is none that can be served."""

    status = 400


class Forbidden(SkillError):
    """Zaki does not serve this."""

    status = 403


class NotThere(SkillError):
    """Neither the registry nor the store has it."""

    status = 404


class Ambiguous(SkillError):
    """Several publishers have a skill of this name."""

    status = 409


class TakenBack(SkillError):
    """It was recalled."""

    status = 410


class Unavailable(SkillError):
    """It cannot be had now."""

    status = 503

    def __init__(self, sentence: str, retry_after: float) -> None:
        super().__init__(sentence)
        #: Seconds after which it may be there.
        self.retry_after = max(1, math.ceil(retry_after))

    @property
    def headers(self) -> dict[str, str]:
        """Both clients wait as long as this says, and try again."""
        return {"Retry-After": str(self.retry_after)}


class TooMany(SkillError):
    """Whoever asks has asked too much lately."""

    status = 429

    def __init__(self, sentence: str, retry_after: float) -> None:
        #: Seconds after which it may ask again.
        self.retry_after = max(1, math.ceil(retry_after))
        super().__init__(f"{sentence}; try again in {self.retry_after} s.")

    @property
    def headers(self) -> dict[str, str]:
        """Both clients wait as long as this says, and try again."""
        return {"Retry-After": str(self.retry_after)}
