"""The archives that are kept, within the room that they may take."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from sqlalchemy import select

from bot.disk import NO_ROOM
from bot.front.skills.errors import Unavailable
from bot.skills import locks
from bot.skills.shelf import Shelf
from bot.store import Database
from bot.store.tables import SkillVersion

_log = structlog.get_logger(__name__)


class Keeping:
    """The shelf, from the event loop."""

    def __init__(self, shelf: Shelf, database: Database, most: int) -> None:
        self.shelf = shelf
        self._database = database
        #: Bytes of all archives together.
        self.most = most

    async def put(self, content: bytes) -> str:
        """Keep an archive; its name. Raises :class:`~bot.front.skills.errors.Unavailable` where there is no room."""
        await self._make_room(len(content))
        with told():
            return await asyncio.to_thread(self.shelf.put, content)

    async def find(self, archive: str) -> Path:
        """Where an archive is kept, whole; raises FileNotFoundError where it is not."""
        return await asyncio.to_thread(self.shelf.find, archive)

    async def discard(self, archives: Sequence[str]) -> None:
        """Keep them no longer."""
        for archive in archives:
            await asyncio.to_thread(self.shelf.discard, archive)

    async def sweep(self) -> None:
        """Remove what a stop left half written."""
        await asyncio.to_thread(self.shelf.sweep)

    @asynccontextmanager
    async def incoming(self) -> AsyncIterator[Path]:
        """A file to write to, gone after the block."""
        with told():
            held = self.shelf.incoming()
            path = await asyncio.to_thread(held.__enter__)
            try:
                yield path
            finally:
                await asyncio.to_thread(held.__exit__, None, None, None)

    async def _make_room(self, size: int) -> None:
        """Let go of archives that nobody used for long, until `size` bytes more fit."""
        async with self._database.write() as session:
            kept = select(SkillVersion).where(SkillVersion.archive.is_not(None))
            rows = list(await session.scalars(kept))
            having = set(await locks.counts(session))
            # What an instance has comes last: it may be needed to put right what was changed there.
            rows.sort(key=lambda row: ((row.owner, row.slug, row.version) in having, row.used_at))
            used, gone = sum(row.size for row in rows) + size, []
            for row in rows:
                if used <= self.most:
                    break
                used -= row.size
                gone.append(str(row.archive))
                row.archive = None
            if used > self.most:
                raise Unavailable("Zaki's store of skills is too small for it; ask its operator.", 600.0)
            still = {row.archive for row in rows if row.archive is not None}
        await self.discard([archive for archive in gone if archive not in still])


@contextlib.contextmanager
def told() -> Iterator[None]:
    """A disk that cannot be written to is Zaki's trouble, and told as such."""
    try:
        yield
    except OSError as error:
        full = error.errno in NO_ROOM
        _log.error("a skill cannot be kept", reason="the disk is full" if full else str(error.strerror or error))
        what = "Zaki's disk has no room for it now" if full else "Zaki cannot keep it now"
        raise Unavailable(f"{what}; its operator sees that.", 60.0) from None
