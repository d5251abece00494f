"""Whose an instance is until somebody claims it from the warm pool."""

from __future__ import annotations

#: A Telegram id that nobody can have: Telegram's have at most 52 significant bits. JavaScript still counts it exactly,
#: so a gateway takes it for an owner like any other.
NOBODY = 2**53 - 1
