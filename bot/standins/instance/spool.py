"""Updates that were taken, kept over a restart, each once."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS updates (
    update_id INTEGER PRIMARY KEY,
    message TEXT UNIQUE,
    body TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'taken' CHECK (state IN ('taken', 'sending', 'unconfirmed', 'done'))
)
"""


class Spool:
    """A queue in a SQLite file; in memory where `path` is None."""

    def __init__(self, path: Path | None) -> None:
        self._connection = sqlite3.connect(path or ":memory:", isolation_level=None)
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(_SCHEMA)
        # Whoever was killed while it sent cannot know whether the answer arrived.
        self._connection.execute("UPDATE updates SET state = 'unconfirmed' WHERE state = 'sending'")

    def take(self, update: dict[str, Any]) -> bool:
        """Keep an update; False where its id, or its chat and message id, was taken before."""
        # An edited message has its message's id and is not a repetition of it.
        message = update.get("message")
        key = f"{message['chat']['id']}/{message['message_id']}" if isinstance(message, dict) else None
        taken = self._connection.execute(
            "INSERT OR IGNORE INTO updates (update_id, message, body) VALUES (?, ?, ?)",
            (int(update["update_id"]), key, json.dumps(update)),
        )
        return taken.rowcount == 1

    def next(self) -> dict[str, Any] | None:
        """The oldest update whose turn is still to come."""
        row = self._connection.execute(
            "SELECT body FROM updates WHERE state = 'taken' ORDER BY rowid LIMIT 1"
        ).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def done(self, update: dict[str, Any]) -> None:
        """Never give an update again."""
        self._set(update, "done")

    def sending(self, update: dict[str, Any]) -> None:
        """The answer goes out from now on, so the turn is not begun anew, whatever happens."""
        self._set(update, "sending")

    def unconfirmed(self) -> bool:
        """Whether answers of an earlier process may not have arrived, which nobody was told yet."""
        return self._connection.execute("SELECT 1 FROM updates WHERE state = 'unconfirmed'").fetchone() is not None

    def confessed(self) -> None:
        """The person was told."""
        self._connection.execute("UPDATE updates SET state = 'done' WHERE state = 'unconfirmed'")

    def _set(self, update: dict[str, Any], state: str) -> None:
        statement = "UPDATE updates SET state = ? WHERE update_id = ?"
        self._connection.execute(statement, (state, update["update_id"]))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
