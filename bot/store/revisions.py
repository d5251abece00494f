"""Revisions of the schema, and which code can work with which.

A release may be taken back while messages come in, so the code before it must be able to work with what it made of the
database. Revisions therefore only add; one that takes away or changes begins a new *era*, told by its id: `0007` is of
the first era, `0012.2` and all after it of the second. Code works with every revision of its own era, also with one
that it does not know, and refuses those of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


class SchemaTooNew(Exception):
    """The database is of an era that this code does not know; the message says what to do."""


@dataclass(frozen=True)
class Schema:
    """What a database has, and what this code makes of it."""

    #: Revision of the database; None: it is empty.
    present: str | None
    #: Newest revision that this code knows.
    newest: str
    #: Whether this code knows the revision that the database has.
    known: bool

    @property
    def changes(self) -> bool:
        """Whether this code would change the schema."""
        return self.known and self.present != self.newest

    @property
    def way_back(self) -> bool:
        """Whether the code that works with the database now can still do so afterwards."""
        return self.present is None or era(self.present) == era(self.newest)


def era(revision: str) -> int:
    """The era of a revision: `0007` is of the first, `0012.2` of the second."""
    return int(revision.partition(".")[2] or 1)


def config(connection: Connection) -> Config:
    """Alembic's configuration for a connection."""
    found = Config()
    found.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    found.attributes["connection"] = connection
    return found


def look(connection: Connection) -> Schema:
    """Compare the database with this code."""
    script = ScriptDirectory.from_config(config(connection))
    newest = script.get_current_head()
    assert newest is not None  # noqa: S101 - the migrations are a part of this package
    present = MigrationContext.configure(connection).get_current_revision()
    known = present is None or present in {revision.revision for revision in script.walk_revisions()}
    return Schema(present, newest, known)


def refuse_too_new(schema: Schema) -> None:
    """Raise :class:`SchemaTooNew` where this code cannot work with the database."""
    if not schema.known and not schema.way_back:
        raise SchemaTooNew(
            f"The database has revision {schema.present}, made by a newer Zaki that older ones cannot work with; "
            "run that one, or restore a copy from before it."
        )
