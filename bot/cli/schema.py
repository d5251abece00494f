"""`zaki schema`: the database's schema, and what this version makes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.output import AsJson, CliError, print_details

if TYPE_CHECKING:
    from bot.settings import Settings


def schema(
    copy: Annotated[
        Path | None, typer.Option("--copy", help="Copy the SQLite database to this file, whoever works with it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show whether this version changes the database, and whether the version before can then still use it."""
    from bot.settings import load_settings
    from bot.store import Database

    settings = load_settings()

    async def look() -> dict[str, object]:
        database = Database(settings.effective_database_url)
        try:
            found = await database.schema()
        finally:
            await database.close()
        return {
            "present": found.present,
            "newest": found.newest,
            "changes": found.changes,
            "way_back": found.way_back,
        }

    if copy is not None:
        _copy(settings, copy)
    print_details({**asyncio.run(look()), "copy": copy}, as_json=as_json)


def _copy(settings: Settings, to: Path) -> None:
    from sqlalchemy.engine import make_url

    from bot.store.copies import copy_sqlite

    url = make_url(settings.effective_database_url)
    if url.get_backend_name() != "sqlite" or url.database is None:
        raise CliError("Only a SQLite database can be copied here; for PostgreSQL use pg_dump.")
    copy_sqlite(Path(url.database), to)
