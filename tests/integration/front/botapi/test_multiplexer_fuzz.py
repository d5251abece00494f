"""Whatever an instance sends, it gets an answer in Telegram's shape, and nobody but its owner gets anything."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.front.botapi.methods import _METHODS
from bot.front.outbox import Backoff
from tests.integration.front.botapi.conftest import FAST, MakeWorld

METHODS = sorted(method.name for method in _METHODS.values())
FIELDS = sorted({field for method in _METHODS.values() for field in method.fields})
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["OWNER", "STRANGER", "@someone", "attach://x", "https://x.invalid/y", "zk:x", "{}", "[", "\0", "\ud800"]
    )
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*FIELDS, "id", "user", "type", "inline_keyboard", "callback_data"]), inner)
    ),
    max_leaves=12,
)
PARAMS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=12), VALUES, max_size=6)
BODIES = st.tuples(
    st.sampled_from(
        [
            "",
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "multipart/form-data; boundary=x",
            "text/plain",
            "\xff",
        ]
    ),
    st.binary(max_size=200)
    | st.sampled_from(
        [
            b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\nhi\r\n--x--\r\n',
            b'--x\r\nContent-Disposition: form-data; name="document"; filename="a"\r\n\r\nhi\r\n--x--\r\n',
            b'--x\r\nContent-Disposition: form-data; name="document"; filename="a"\r\n\r\nhi',
            b"--x\r\n\r\nhi\r\n--x--\r\n",
            b'{"a":' * 5000,
            b"[" * 100000,
            b'{"chat_id": 1e999}',
            b'{"chat_id": NaN}',
            b'{"chat_id": ' + b"9" * 5000 + b"}",
            b'{"text": "\\ud800"}',
            b"%ff=%ff&a[b]=c",
        ]
    ),
)
QUICK = replace(FAST, patience=0.02, backoff=Backoff(first=0.01, longest=0.02))

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
unhurried = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def placed(value: Any, owner: int, stranger: int) -> Any:
    """The same with real chat ids."""
    if isinstance(value, dict):
        return {name: placed(item, owner, stranger) for name, item in value.items()}
    if isinstance(value, list):
        return [placed(item, owner, stranger) for item in value]
    return {"OWNER": owner, "STRANGER": stranger}.get(value, value) if isinstance(value, str) else value


async def test_random_parameters(make_world: MakeWorld) -> None:
    async with make_world(QUICK) as world:
        mine, other = await world.assistant(), await world.assistant()

        async with mine.http() as http:

            @unhurried
            @given(st.data())
            def prepare(data: st.DataObject) -> None:
                name = data.draw(st.sampled_from(METHODS))
                params = {"chat_id": "OWNER", **data.draw(PARAMS)}
                cases.append((name, placed(params, mine.owner.id, other.owner.id)))

            cases: list[tuple[str, dict[str, Any]]] = []
            prepare()
            for name, params in cases:
                answer = await http.post(
                    f"/{name}", content=json.dumps(params), headers={"Content-Type": "application/json"}
                )
                assert answer.status_code < 500, (name, params)
                assert isinstance(answer.json()["ok"], bool)
                assert answer.json()["ok"] is (answer.status_code == 200)
        assert [message for message in await world.telegram.messages(other.owner) if message.from_bot] == []
        for call in await world.telegram.calls():
            for name in ("chat_id", "from_chat_id", "user_id"):
                assert call.params.get(name) in (None, mine.owner.id)


async def test_random_bodies(make_world: MakeWorld) -> None:
    async with make_world(QUICK) as world:
        mine = await world.assistant()
        cases: list[tuple[str, tuple[str, bytes]]] = []

        @unhurried
        @given(st.sampled_from(["sendMessage", "sendDocument", "getMe", "setMyCommands", "x"]), BODIES)
        def prepare(name: str, body: tuple[str, bytes]) -> None:
            cases.append((name, body))

        prepare()
        async with mine.http() as http:
            for name, (content_type, body) in cases:
                headers = [(b"Content-Type", content_type.encode("latin-1"))]
                answer = await http.post(f"/{name}", content=body, headers=headers)
                assert answer.status_code < 500, (name, content_type, body)
                assert isinstance(answer.json()["ok"], bool)
        assert list(world.outbox.spool.folder.iterdir()) == []
