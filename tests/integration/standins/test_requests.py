"""The ways to send parameters, and nonsense in them."""

import asyncio
import contextlib
import json
import re
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.standins.telegram import Simulator, SimulatorConfig
from bot.standins.telegram.errors import ApiError
from bot.standins.telegram.methods import METHODS
from bot.standins.telegram.params import Params
from bot.standins.telegram.userside import add_person, say

PERSON = 7_000_000_000
#: These wait or start tasks.
EXCEPT = {"getupdates", "setwebhook", "deletewebhook"}
NAMES = re.findall(
    r"\w+",
    """
    chat_id from_chat_id user_id message_id message_ids text caption parse_mode entities caption_entities reply_markup
    reply_parameters reply_to_message_id link_preview_options photo document media options question latitude longitude
    action draft_id commands scope language_code menu_button reaction file_id callback_query_id name description type
    inline_keyboard keyboard command offset length url
    """,
)
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("way", ["json", "form", "query"])
async def test_every_way_to_send_parameters(sim: Any, way: str) -> None:
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    markup = {"inline_keyboard": [[{"text": "b", "callback_data": "b"}]]}
    values = {"chat_id": person.id, "text": "<b>hi</b>", "parse_mode": "HTML", "protect_content": True}
    flat = values | {"reply_markup": json.dumps(markup), "protect_content": "true"}
    path = f"/bot{sim.simulator.config.token}/SENDMESSAGE"
    async with httpx.AsyncClient(base_url=sim.url, trust_env=False) as http:
        if way == "json":
            answer = await http.post(path, json=values | {"reply_markup": markup})
        elif way == "form":
            answer = await http.post(path, data=flat)
        else:
            answer = await http.get(path, params=flat)
    message = answer.json()["result"]
    assert (message["text"], message["entities"][0]["type"], message["reply_markup"]) == ("hi", "bold", markup)
    assert message["has_protected_content"] is True


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b"{"), ("application/json", b"[1]"), ("multipart/form-data; boundary=x", b"--x\r\nnonsense")],
)
async def test_broken_bodies_are_bad_requests(sim: Any, content_type: str, body: bytes) -> None:
    async with httpx.AsyncClient(base_url=sim.url, trust_env=False) as http:
        path = f"/bot{sim.simulator.config.token}/sendMessage"
        answer = await http.post(path, content=body, headers={"Content-Type": content_type})
    assert (answer.status_code, answer.json()["error_code"]) == (400, 400)


@settings(deadline=None, max_examples=400)
@given(method=st.sampled_from(sorted(METHODS.keys() - EXCEPT)), values=st.dictionaries(st.sampled_from(NAMES), JUNK))
def test_nonsense_is_refused_and_never_an_error_of_ours(method: str, values: dict[str, Any]) -> None:
    simulator = Simulator(SimulatorConfig("1234567890:test"))
    message = say(simulator, add_person(simulator, PERSON), "hello")
    values = {"chat_id": PERSON, "from_chat_id": PERSON, "message_id": message["message_id"]} | values

    async def call() -> None:
        with contextlib.suppress(ApiError):
            json.dumps(await METHODS[method](simulator, Params(values)))

    asyncio.run(call())
