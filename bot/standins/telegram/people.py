"""Who writes in the simulator: ids as Telegram's users have them, names of people of computing's history."""

import random

_NAMES = (
    ("Ada", "Lovelace"),
    ("Alan", "Turing"),
    ("Alonzo", "Church"),
    ("Annie", "Easley"),
    ("Claude", "Shannon"),
    ("Dorothy", "Vaughan"),
    ("Edsger", "Dijkstra"),
    ("Evelyn", "Boyd Granville"),
    ("Grace", "Hopper"),
    ("Hedy", "Lamarr"),
    ("John", "Backus"),
    ("Katherine", "Johnson"),
    ("Kathleen", "Booth"),
    ("Konrad", "Zuse"),
    ("Kurt", "Gödel"),
    ("Mary", "Jackson"),
)


def random_user_id(rng: random.Random) -> int:
    """An id as today's accounts get: ten digits, beyond 32 bits."""
    return rng.randint(5_000_000_000, 8_999_999_999)


def random_name(rng: random.Random) -> tuple[str, str]:
    """First and last name."""
    return rng.choice(_NAMES)
