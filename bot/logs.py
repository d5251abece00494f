"""Logs of the services: structlog, configured once; for people on a terminal, JSON otherwise, secrets filtered."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable
from typing import TextIO

import structlog
from sqlalchemy.engine import make_url
from structlog.typing import EventDict, Processor, WrappedLogger

from bot.settings import Settings

_HIDDEN = "[secret]"
#: Virtual credentials of instances (bot/credentials.py) and real bot tokens, whoever they are of.
_SHAPES = re.compile(r"(?<!\d)\d{6,12}:[A-Za-z0-9_-]{20,}|(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{16,}")
#: These libraries log each request's URL, which says little and holds tokens.
_CHATTY = ("httpx", "httpcore", "aiosqlite", "alembic", "asyncio", "uvicorn", "uvicorn.error", "uvicorn.access")


def configure(secrets: Iterable[str] = (), level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send the logs of structlog and of the standard library to `stream` (standard error by default).

    Lines below `level`, one of the standard library's, are left out. No line holds one of `secrets`, nor anything
    that looks like a bot token or a model key.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso" if not stream.isatty() else "%H:%M:%S", utc=not stream.isatty()),
    ]
    renderer: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=True)]
        if stream.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer, _Redactor(secrets)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(max(level, logging.WARNING))


def secrets_of(settings: Settings) -> list[str]:
    """What must never be logged, as far as the settings hold it."""
    found = [secret.get_secret_value() for secret in (settings.telegram_token, settings.model_key) if secret]
    password = make_url(settings.effective_database_url).password
    return [*found, password] if password else found


class _Redactor:
    """Hides secrets in a rendered line, so that no message, field or traceback can carry one past it."""

    def __init__(self, secrets: Iterable[str]) -> None:
        written = {form for secret in secrets if secret for form in (secret, json.dumps(secret)[1:-1])}
        #: The longest first: one secret may begin with another.
        self._known = sorted(written, key=len, reverse=True)

    def __call__(self, _logger: WrappedLogger, _name: str, line: EventDict | str) -> str:
        text = str(line)
        for secret in self._known:
            text = text.replace(secret, _HIDDEN)
        return _SHAPES.sub(_HIDDEN, text)
