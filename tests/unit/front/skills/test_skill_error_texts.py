"""What the registry says with an error is fit to be kept and shown."""

from __future__ import annotations

import httpx
import pytest

from bot.front.skills.errors import Forbidden
from bot.front.skills.upstream import Upstream


async def test_an_error_has_no_character_that_no_text_may_have() -> None:
    transport = httpx.MockTransport(
        lambda request: httpx.Response(403, stream=httpx.ByteStream(b"No\x00 \xed\xa0\x80entry"))
    )
    async with httpx.AsyncClient(transport=transport) as http:
        with pytest.raises(Forbidden, match="entry") as caught:
            await Upstream("https://registry.example", http).get("/x")
    sentence = caught.value.sentence
    assert "\0" not in sentence
    assert sentence.encode().decode() == sentence
