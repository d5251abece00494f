"""The parameters of a Bot API call, however they were sent."""

import json
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from bot.standins.telegram.errors import bad_request

_MAX_FIELD = 4 * 2**20


@dataclass(frozen=True)
class Upload:
    """A file sent along with a call."""

    name: str
    content: bytes = field(repr=False)
    mime_type: str | None = None


def as_integer(value: Any) -> int | None:
    """A number as the Bot API takes it, also from a string; None if it is none."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


@dataclass
class Params:
    """Parameters by name: text from forms and queries, JSON values from JSON bodies."""

    values: dict[str, Any] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        value = self.values.get(name)
        if value is None:
            return default
        return value if isinstance(value, str) else json.dumps(value)

    def integer(self, name: str) -> int | None:
        """Raises ApiError 400 if it is there and no number."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        number = as_integer(value)
        if number is None:
            raise bad_request(f"can't parse {name} as an integer")
        return number

    def flag(self, name: str) -> bool:
        value = self.values.get(name)
        return value is True or str(value).lower() in {"true", "1", "yes", "t"}

    def object(self, name: str) -> Any:
        """A JSON-serialized parameter, None if it is missing; raises ApiError 400 if it is not JSON."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise bad_request(f"can't parse {name} JSON object") from None

    def mapping(self, name: str) -> dict[str, Any]:
        """A JSON object, empty if it is missing; raises ApiError 400 if it is anything else."""
        value = self.object(name)
        if value is not None and not isinstance(value, dict):
            raise bad_request(f"object expected as {name}")
        return value or {}

    def sequence(self, name: str) -> list[Any]:
        """A JSON array, empty if it is missing; raises ApiError 400 if it is anything else."""
        value = self.object(name)
        if value is not None and not isinstance(value, list):
            raise bad_request(f"array expected as {name}")
        return value or []

    def mappings(self, name: str) -> list[dict[str, Any]]:
        """A JSON array of objects, empty if it is missing; raises ApiError 400 if it is anything else."""
        items = self.sequence(name)
        if not all(isinstance(item, dict) for item in items):
            raise bad_request(f"array of objects expected as {name}")
        return items

    def upload(self, name: str) -> Upload | None:
        """The file for this parameter: sent under its name, or under the name in `attach://…`."""
        value = self.values.get(name)
        if isinstance(value, str) and value.startswith("attach://"):
            return self.uploads.get(value.removeprefix("attach://"))
        return self.uploads.get(name)


async def read_params(request: Request) -> Params:
    """Query string and body (JSON, urlencoded or multipart) together; raises ApiError 400 for broken JSON."""
    params = Params(dict(request.query_params))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        body = await request.body()
        try:
            values = json.loads(body) if body else {}
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise bad_request("can't parse request: JSON object expected")
        params.values |= values
    elif kind in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        async with request.form(max_files=100, max_fields=1000, max_part_size=_MAX_FIELD) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    params.uploads[name] = Upload(value.filename or "file", await value.read(), value.content_type)
                else:
                    params.values[name] = value
    return params
