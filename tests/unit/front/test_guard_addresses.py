"""Addresses as sockets write them."""

from __future__ import annotations

import pytest

from bot.front.guard import _same_address


@pytest.mark.parametrize(
    ("kept", "peer", "same"),
    [
        ("10.87.0.5", "10.87.0.5", True),
        ("10.87.0.5", "::ffff:10.87.0.5", True),
        ("10.87.0.5", "10.87.0.50", False),
        ("10.87.0.5", "", False),
        ("10.87.0.5", "testclient", False),
        ("fd00::5", "fd00:0::5", True),
    ],
)
def test_a_peer_is_compared_as_an_address(kept: str, peer: str, same: bool) -> None:
    assert _same_address(kept, peer) is same
