"""How many members the pool should have: enough for those who come while the next ones are being made."""

from __future__ import annotations

import math
from collections.abc import Iterable

#: Seconds after which somebody who came counts half: what was this morning says little about now.
HALF_LIFE = 3600.0
#: Seconds after which they do not count any more.
FORGOTTEN = 8 * HALF_LIFE
#: Seconds until a member that was taken is replaced: it is made when nobody else needs the machine.
REFILL = 120.0
#: How often somebody may come and find the pool empty.
_MISSED = 0.05


def wanted_size(arrivals: Iterable[float], at: float, most: int) -> int:
    """How many members there should be; `arrivals` are Unix times at which somebody new came, `most` the operator's.

    At least one, for whoever comes next, unless the operator wants none.
    """
    expected = REFILL * _rate(arrivals, at)
    size = 1
    while size < most and _more_than(size, expected) > _MISSED:
        size += 1
    return min(size, most)


def _rate(arrivals: Iterable[float], at: float) -> float:
    """Arrivals in a second, the latest counting most."""
    # A clock that was set back must not make the past weigh more than now.
    ages = [max(0.0, at - arrival) for arrival in arrivals]
    return sum(math.exp2(-age / HALF_LIFE) for age in ages) * math.log(2) / HALF_LIFE


def _more_than(number: int, expected: float) -> float:
    """How likely more come than this number where so many are expected, by Poisson's law."""
    term = math.exp(-expected)
    none_more = term
    for count in range(1, number + 1):
        term *= expected / count
        none_more += term
    return 1.0 - none_more
