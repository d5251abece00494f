"""The operator's sets of skills, as their file is now."""

from __future__ import annotations

from pathlib import Path

import structlog

from bot.skills.sets import SetsError, SkillSets, load

_log = structlog.get_logger(__name__)


class Sets:
    """Read anew whenever they are asked for, so that an edit needs no restart; they are a few lines."""

    def __init__(self, path: Path | None) -> None:
        """`path`: None: the ones that come with Zaki."""
        self._path = path

    def now(self) -> SkillSets:
        """The sets; none where the file cannot be used, which the operator is told."""
        try:
            return load(self._path)
        except SetsError as error:
            _log.error("nobody is offered sets of skills", reason=str(error))
            return SkillSets()
