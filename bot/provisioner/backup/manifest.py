"""What one backup holds, as it is written down in the backup itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum

#: Of the format; a larger one was written by a newer Zaki.
VERSION = 1


class Held(StrEnum):
    """What an instance did while its files were read."""

    AT_REST = "at rest"  #: nothing: it was asleep, stopped or archived
    STILL = "held still"  #: it had nothing to do, and was frozen for that moment
    BUSY = "busy"  #: it was frozen in the middle of its work, so its files are as a power cut would leave them


@dataclass(frozen=True)
class Copy:
    """The files of one instance."""

    #: The snapshot that holds them as one tar.
    snapshot: str
    #: Of the tar: its length, its entries, its checksum.
    bytes: int
    files: int
    sha256: str
    held: Held
    #: Unix time at which they were read, and at which they were last seen to be what the instance has.
    taken_at: float
    as_of: float
    #: The archive that they were read from; None: a volume.
    archive: str | None = None
    #: When the instance's next scheduled job was due then; None: it had none, or did not say.
    next_job_at: float | None = None


@dataclass(frozen=True)
class Manifest:
    """One backup."""

    at: float
    #: `sqlite` or `postgresql`, and the checksum of the copy.
    database: str
    database_sha256: str
    #: By instance.
    copies: Mapping[str, Copy] = field(default_factory=dict)
    #: Instances whose copy is older than the backup, or missing: why that is so.
    troubles: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """For :meth:`from_json`."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Raises ValueError with a sentence where it cannot be read."""
        try:
            found = json.loads(text)
            version = found.pop("version")
            if version > VERSION:
                raise ValueError("This backup was made by a newer Zaki; restore it with that version.")
            copies = {name: Copy(**{**copy, "held": Held(copy["held"])}) for name, copy in found.pop("copies").items()}
            return cls(copies=copies, **found)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"The list of what this backup holds cannot be read ({error}); take another one."
            ) from None
