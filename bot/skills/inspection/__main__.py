"""`python -m bot.skills.inspection`: what to inspect comes on standard input, the findings go to standard output."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from pathlib import Path

from bot.skills.inspection.findings import inspect

#: Bytes of memory and of a written file, and seconds of a processor.
_MEMORY = 2**30
_FILE = 64 * 2**20
_SECONDS = 45


def main() -> None:
    """Inspect one archive, within bounds that the kernel holds where it may."""
    for limit, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_FSIZE, _FILE),
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        # A service's own sandbox may forbid it; the bounds of the reader hold all the same.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (most, most))
    asked = json.load(sys.stdin)
    found = inspect(Path(asked["archive"]), Path(asked["packed"]), asked["listed"], asked["before"])
    json.dump(found.as_json(), sys.stdout)


if __name__ == "__main__":
    main()
