"""A request of an instance, read whichever way it was sent: query, JSON, urlencoded, or multipart with files."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from bot.disk import NO_ROOM, READ_ONLY
from bot.front.botapi.refusals import Refused, invalid
from bot.front.outbox.spool import Spool, SpooledFile, SpoolFull
from bot.front.telegram import Upload

#: Seconds within which a request is in, 50 MB of a file included.
_WITHIN = 120.0
_MOST_FIELDS = 200
#: An album of ten, each with a thumbnail and a cover.
_MOST_FILES = 30
#: Bytes that are read on after a refusal, so that the sender comes to hear it.
_READ_ON = 256 * 2**20
_FIELD = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_CONTENT_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,64}/[A-Za-z0-9!#$&^_.+-]{1,64}\Z")
_TOO_LARGE = "Request Entity Too Large"
_NO_ROOM = "Bad Request: the file cannot be kept now, because there is no room for it"


@dataclass
class Sent:
    """Parameters as they came (strings from forms, JSON values from JSON), and files, which are the caller's now."""

    params: dict[str, Any] = field(default_factory=dict)
    files: list[Upload] = field(default_factory=list)


async def read(request: Request, spool: Spool, instance_id: str, largest: int) -> Sent:
    """Read the request, which has at most `largest` bytes beside its files.

    Raises :class:`Refused`, and leaves no file behind then.
    """
    sent = Sent()
    try:
        async with asyncio.timeout(_WITHIN):
            try:
                await _read(request, spool, instance_id, largest, sent)
            except Refused:
                await _read_on(request)
                raise
    except BaseException as error:
        spool.discard([file.path for file in sent.files])
        if isinstance(error, TimeoutError):
            raise Refused(408, "Request Timeout: the request did not arrive in time") from None
        raise
    return sent


async def _read(request: Request, spool: Spool, instance_id: str, largest: int, sent: Sent) -> None:
    query = request.scope["query_string"]
    if len(query) > largest:
        raise Refused(413, _TOO_LARGE)
    _put_all(sent.params, _pairs(query.decode("latin-1")))
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == b"multipart/form-data":
        await _read_multipart(request, options.get(b"boundary", b""), _Form(spool, instance_id, largest), spool, sent)
    else:
        _put_all(sent.params, _parse_body(kind, await _body(request, largest)))


def json_value(text: str | bytes) -> Any:
    """A JSON value that can be sent on; raises :class:`Refused`."""
    try:
        return clean(json.loads(text, parse_constant=_no_constant), 0)
    except (ValueError, RecursionError):
        raise invalid("can't parse JSON") from None


def clean(value: Any, depth: int = 0) -> Any:
    """A copy whose texts have no NUL and no half of a surrogate pair; raises :class:`Refused` where it is too deep."""
    if depth > _DEEPEST:
        raise invalid("the JSON is too deep")
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {clean(name, depth): clean(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list):
        return [clean(item, depth + 1) for item in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        raise invalid("a number is too large")
    return value


_DEEPEST = 48


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _parse_body(kind: bytes, body: bytes) -> Iterable[tuple[str, Any]]:
    if kind == b"application/x-www-form-urlencoded":
        return _pairs(body.decode("utf-8", "replace"))
    if not body.strip():
        return ()
    if kind != b"application/json":
        raise invalid("send application/json, application/x-www-form-urlencoded or multipart/form-data")
    value = json_value(body)
    if not isinstance(value, dict):
        raise invalid("a JSON object is expected")
    return value.items()


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="replace")
    except ValueError:
        raise invalid("too many parameters") from None


def _put_all(params: dict[str, Any], pairs: Iterable[tuple[str, Any]]) -> None:
    for name, value in pairs:
        name = clean(name)
        if not _FIELD.match(name):
            raise invalid("a parameter's name is not one of the Bot API")
        # Two values for one name are a way to have one checked and the other used.
        if name in params:
            raise invalid(f"{name} is given twice")
        params[name] = clean(value)
    if len(params) > _MOST_FIELDS:
        raise invalid("too many parameters")


async def _body(request: Request, largest: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > largest:
            raise Refused(413, _TOO_LARGE)
    return bytes(body)


async def _read_on(request: Request) -> None:
    left = _READ_ON
    try:
        async for chunk in request.stream():
            left -= len(chunk)
            if left < 0:
                return
    except RuntimeError:
        # It was read to its end already.
        return


async def _read_multipart(request: Request, boundary: bytes, form: _Form, spool: Spool, sent: Sent) -> None:
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        async for chunk in request.stream():
            parser.write(chunk)
            await form.finish_files()
        parser.finalize()
        await form.finish_files()
        if form.file is not None or not form.ended:
            raise invalid("the multipart body ends too early")
        _put_all(sent.params, form.fields)
        names = [file.field for file in form.files]
        if len(set(names)) != len(names) or set(names) & sent.params.keys():
            raise invalid("a parameter is given twice")
        if form.files:
            await asyncio.to_thread(spool.sync_folder)
        sent.files.extend(form.files)
    except BaseException as error:
        form.drop()
        if isinstance(error, FormParserError | UnicodeDecodeError):
            raise invalid("can't parse the multipart body") from None
        if isinstance(error, SpoolFull):
            raise Refused(413, _TOO_LARGE) from None
        if isinstance(error, OSError) and error.errno in NO_ROOM | READ_ONLY:
            # Another try at once would end the same way, which a 5xx would invite.
            raise Refused(400, _NO_ROOM) from None
        raise


class _Form:
    """Takes what the parser finds: fields into memory, files into the spool."""

    def __init__(self, spool: Spool, instance_id: str, largest: int) -> None:
        self.fields: list[tuple[str, str]] = []
        self.files: list[Upload] = []
        self.file: SpooledFile | None = None
        self.ended = False
        self._spool = spool
        self._instance_id = instance_id
        self._largest = largest
        self._size = 0
        self._done: list[tuple[SpooledFile, str, str, str]] = []
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._name = self._filename = self._content_type = ""
        self._data = bytearray()

    def callbacks(self) -> dict[str, Any]:
        """What the parser calls."""
        return {
            "on_part_begin": self._part_begin,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_end": self._end,
        }

    async def finish_files(self) -> None:
        """Bring the files that are complete to disk for good."""
        while self._done:
            file, name, filename, content_type = self._done[0]
            await asyncio.to_thread(file.close)
            self.files.append(Upload(name, file.path, filename, content_type, file.size, file.sha256))
            self._done.pop(0)

    def drop(self) -> None:
        """Remove every file again."""
        for file in [*(item[0] for item in self._done), *([self.file] if self.file else [])]:
            file.abandon()
        self._spool.discard([file.path for file in self.files])

    def _part_begin(self) -> None:
        self._headers, self._data = {}, bytearray()

    def _header_end(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode()
        if not _FIELD.match(self._name):
            raise invalid("a part's name is not one of the Bot API")
        if b"filename" not in options:
            if len(self.fields) >= _MOST_FIELDS:
                raise invalid("too many parameters")
            return
        if len(self.files) + len(self._done) >= _MOST_FILES:
            raise invalid("too many files")
        self._filename = _filename(options[b"filename"].decode("utf-8", "replace"))
        content_type = self._headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip()
        self._content_type = content_type if _CONTENT_TYPE.match(content_type) else "application/octet-stream"
        self.file = self._spool.create(self._instance_id)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self.file is not None:
            self.file.write(data[start:end])
            return
        self._size += end - start
        if self._size > self._largest:
            raise Refused(413, _TOO_LARGE)
        self._data.extend(data[start:end])

    def _part_end(self) -> None:
        if self.file is not None:
            self._done.append((self.file, self._name, self._filename, self._content_type))
            self.file = None
        else:
            self.fields.append((self._name, self._data.decode()))

    def _end(self) -> None:
        self.ended = True


def _filename(given: str) -> str:
    name = re.sub(r"[\x00-\x1f\x7f/\\]", "_", clean(given).rsplit("/", 1)[-1].rsplit("\\", 1)[-1])
    return name[-128:] or "file"
