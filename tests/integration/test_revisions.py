"""Revisions of the schema only add, and code whose release was taken back works with what a newer one left."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

from bot.store import Database
from bot.store.revisions import SchemaTooNew, config, era

#: The one that the first release had.
_FIRST_RELEASED = "0002"


def tables(connection: Connection) -> dict[str, dict[str, Any]]:
    found = inspect(connection)
    return {
        name: {column["name"]: column for column in found.get_columns(name)} for name in sorted(found.get_table_names())
    }


def test_within_an_era_a_revision_only_adds(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'database'}")
    with engine.connect() as connection:
        script = ScriptDirectory.from_config(config(connection))
        revisions = [found.revision for found in reversed(list(script.walk_revisions()))]
        command.upgrade(config(connection), _FIRST_RELEASED)
        for before, after in itertools.pairwise(revisions[revisions.index(_FIRST_RELEASED) :]):
            present = tables(connection)
            command.upgrade(config(connection), after)
            changed = tables(connection)
            if era(before) != era(after):
                continue
            for table, columns in present.items():
                assert columns.keys() <= changed[table].keys(), f"{after} takes away from {table}"
                for name in changed[table].keys() - columns.keys():
                    column = changed[table][name]
                    assert column["nullable"] or column["default"] is not None, (
                        f"{after} adds {table}.{name}, which older code does not fill: give it a server default"
                    )
    engine.dispose()


async def test_a_newer_schema_of_the_same_era_stays_as_it_is(database: Database) -> None:
    await _pretend(database, "9999")
    await database.migrate()
    schema = await database.schema()
    assert (schema.present, schema.known, schema.changes) == ("9999", False, False)


async def test_a_schema_of_a_later_era_is_refused(database: Database) -> None:
    await _pretend(database, "9999.2")
    with pytest.raises(SchemaTooNew, match=r"9999\.2"):
        await database.migrate()


async def _pretend(database: Database, revision: str) -> None:
    async with database.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
