"""How far an instance gets besides Zaki itself."""

from __future__ import annotations

from enum import StrEnum


class Egress(StrEnum):
    """A policy; whatever it is, nothing private, and nothing of the host's, is ever reached."""

    OPEN = "open"  #: the public internet
    LIST = "list"  #: the names that the host's stack lists for the plan, through the proxy
    NONE = "none"


_STRICT = (Egress.OPEN, Egress.LIST, Egress.NONE)


def strictest(*policies: Egress) -> Egress:
    """The one that lets out least."""
    return max(policies, key=_STRICT.index)
