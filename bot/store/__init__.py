"""The database: tables, sessions, migrations."""

from bot.store.database import Database, now

__all__ = ["Database", "now"]
