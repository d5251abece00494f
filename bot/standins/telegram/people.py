"""Who writes in the simulator: names and ids as Telegram's users have them."""

import random

_FIRST = ("Amina", "Björn", "Carla", "Dmitri", "Elif", "Farid", "Grace", "Hana", "Ines", "Jonas", "Katya", "Leo", "Mei")
_LAST = (
    "Almeida",
    "Berg",
    "Dahl",
    "Eriksen",
    "Farouk",
    "Hoffmann",
    "Ito",
    "Kowalski",
    "Moreau",
    "Novak",
    "Okafor",
    "Sato",
)


def random_user_id(rng: random.Random) -> int:
    """An id as today's accounts get: ten digits, beyond 32 bits."""
    return rng.randint(5_000_000_000, 8_999_999_999)


def random_name(rng: random.Random) -> tuple[str, str]:
    """First and last name."""
    return rng.choice(_FIRST), rng.choice(_LAST)
