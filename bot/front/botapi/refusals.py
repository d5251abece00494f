"""Why a call of an instance goes no further."""

from __future__ import annotations


class Refused(Exception):
    """A call that is answered with an error in the Bot API's shape; `audited`: it asked for what it may not have."""

    def __init__(self, code: int, description: str, *, audited: bool = False) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.audited = audited


def invalid(what: str) -> Refused:
    """400: the call makes no sense."""
    return Refused(400, f"Bad Request: {what}")


def forbidden(what: str) -> Refused:
    """403, audited: the call makes sense, and is not for an instance."""
    return Refused(403, f"Forbidden: {what}", audited=True)
