"""Pages fit into what Telegram takes, whatever a publisher calls a skill and a skill asks for."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import pytest

from bot.credentials import FrontKey
from bot.front.callbacks import sign
from bot.front.skillchat import pages
from bot.front.skillchat.catalogue import Found, Offer, Refused
from bot.front.skillchat.pages import Page
from bot.front.skillchat.recommendations import Recommendation
from bot.skills.holdings import Holding
from bot.skills.names import SkillName
from bot.skills.sets import Recommended, SkillSet
from bot.store.tables import SkillPolicy, SkillProgress, SkillStatus

ADA = 2**52
KEY = FrontKey(bytes(32))
NAME = SkillName("o" * 40, "s" * 64)
NEEDS = {kind: [f"<{kind}{number}>" * 30 for number in range(100)] for kind in ("bins", "env", "domains", "installs")}
#: All letters that HTML makes longer.
TITLE = "<&" * 100
VERSION = "1" * 64
OFFER = Offer(NAME, TITLE, "<&>" * 400, VERSION, NEEDS)
NEED = SkillSet("k" * 24, TITLE, TITLE, (Recommended(NAME),) * 20)


def holding(status: SkillStatus | None, number: int = 0) -> Holding:
    name = SkillName(NAME.owner, f"{number:03}{'s' * 61}")
    return Holding(name, TITLE, VERSION, status, wanted=True, offered=VERSION, asks=NEEDS, detail="<&>" * 400)


HELD = [holding(SkillStatus.ASKS, number) for number in range(40)]
PROGRESS = [
    SkillProgress(telegram_id=1, owner=NAME.owner, slug=f"s{number}", message_id=1, shown="failed", detail="<" * 900)
    for number in range(8)
]
PAGES: dict[str, Page] = {
    "mine": pages.mine(HELD, 1, open_=True),
    "held": pages.held(holding(SkillStatus.INSTALLED), NEEDS, "<&>" * 400),
    "asked": pages.held(holding(SkillStatus.ASKS), NEEDS, "<&>" * 400),
    "offered": pages.offered(OFFER),
    "refused": pages.offered(Refused(NAME, "<&>" * 400)),
    "results": pages.results("<&>" * 40, Found([OFFER] * 5, 3, "<&>" * 400), {}),
    "recommended": pages.recommended([Recommendation(NAME, TITLE, f"because you have {TITLE}")] * 6, needs=True),
    "by need": pages.by_need([NEED] * 8),
    "offer": pages.offer([NEED] * 8),
    "need": pages.need(NEED, [OFFER] * 20, {}, first=True),
    "policy": pages.policy(holding(SkillStatus.INSTALLED)),
    "options": pages.options(from_messages=False),
    "asks": pages.asks(NAME, TITLE, VERSION, NEEDS, VERSION),
    "progress": pages.progress(PROGRESS, {}),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits(name: str) -> None:
    text, buttons = PAGES[name]
    # Telegram counts what is seen, without markup.
    seen = html.unescape(re.sub(r"</?[a-z]+>", "", text))
    assert len(seen.encode("utf-16-le")) // 2 <= 4096
    # No tag is cut in two.
    assert text.count("<b>") == text.count("</b>")
    assert "<" not in re.sub(r"</?[a-z]+>", "", text)
    assert 0 < sum(len(row) for row in buttons) <= 100
    for row in buttons:
        for button in row:
            assert len(sign(KEY, ADA, button.press).encode()) <= 64
            assert len(button.text) <= 40


def test_markup_of_others_is_text() -> None:
    text, _ = pages.offered(Offer(NAME, "<b>", "<i>", "1.0.0", {"bins": ["<a>"]}))
    assert "&lt;b&gt;" in text
    assert "&lt;i&gt;" in text
    assert "&lt;a&gt;" in text


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (holding(SkillStatus.INSTALLED), ["Remove", "Updates"]),
        (holding(SkillStatus.ASKS), ["Update", "Keep the old one"]),
    ],
)
def test_what_can_be_done_with_a_skill(one: Holding, words: Sequence[str]) -> None:
    _, buttons = pages.held(one, {}, "")
    labels = [button.text for row in buttons for button in row]
    assert all(any(word in label for label in labels) for word in words)


def test_one_that_is_taken_back_can_only_be_looked_at() -> None:
    one = Holding(NAME, "Tides", "1.0.0", SkillStatus.INSTALLED, wanted=True, recalled=True)
    text, buttons = pages.held(one, {}, "")
    assert "taken back" in text
    assert [[button.text for button in row] for row in buttons] == [["‹ My skills"]]


def test_the_policy_in_force_is_marked() -> None:
    one = Holding(NAME, "Tides", "1.0.0", SkillStatus.INSTALLED, wanted=True, policy=SkillPolicy.LATEST)
    _, buttons = pages.policy(one)
    marked = [button.text for row in buttons for button in row if button.text.startswith("✓")]
    assert marked == ["✓ Every new version by itself"]
