"""Formatted text becomes the entities that Telegram makes of it."""

import pytest

from bot.standins.telegram.errors import ApiError
from bot.standins.telegram.html_markup import parse_html
from bot.standins.telegram.markdown_markup import parse_markdown, parse_markdown_v2
from bot.standins.telegram.state import Json


def readable(parsed: tuple[str, list[Json]]) -> tuple[str, list[tuple[str, str]]]:
    text, entities = parsed
    units = text.encode("utf-16-le")

    def part(entity: Json) -> str:
        return units[2 * entity["offset"] : 2 * (entity["offset"] + entity["length"])].decode("utf-16-le")

    return text, [(entity["type"], part(entity)) for entity in entities]


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        ("🦀 <b>bold <i>both</i></b>", "🦀 bold both", [("bold", "bold both"), ("italic", "both")]),
        (
            "<u>a</u><s>b</s><code>c &lt; d</code>",
            "abc < d",
            [("underline", "a"), ("strikethrough", "b"), ("code", "c < d")],
        ),
        ('<tg-spoiler>x</tg-spoiler><span class="tg-spoiler">y</span>', "xy", [("spoiler", "x"), ("spoiler", "y")]),
        ("<blockquote expandable>q</blockquote>", "q", [("expandable_blockquote", "q")]),
        ("1 > 0 &amp; &nbsp; &#39;", "1 > 0 & &nbsp; '", []),
        ("<b></b>nothing", "nothing", []),
    ],
)
def test_html(source: str, text: str, entities: list[tuple[str, str]]) -> None:
    assert readable(parse_html(source)) == (text, entities)


def test_html_links_and_languages() -> None:
    assert parse_html('<a href="https://example.org/?a=1&amp;b=2">x</a>')[1] == [
        {"offset": 0, "length": 1, "type": "text_link", "url": "https://example.org/?a=1&b=2"}
    ]
    assert parse_html('<pre><code class="language-python">x = 1</code></pre>')[1] == [
        {"offset": 0, "length": 5, "type": "pre", "language": "python"}
    ]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("<b>x", 'Can\'t find end tag corresponding to start tag "b"'),
        ("<b>x</i>", 'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"'),
        ("ü<script>x</script>", 'Unsupported start tag "script" at byte offset 2'),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("1 < 2", "Unsupported start tag"),
    ],
)
def test_broken_html(source: str, reason: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_html(source)
    assert refused.value.description.startswith(f"Bad Request: can't parse entities: {reason}")


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        (
            "*b* _i_ __u__ ~s~ ||x||",
            "b i u s x",
            [("bold", "b"), ("italic", "i"), ("underline", "u"), ("strikethrough", "s"), ("spoiler", "x")],
        ),
        ("*a _b_*\\.", "a b.", [("bold", "a b"), ("italic", "b")]),
        ("`a\\`b` [x](https://example.org/\\))", "a`b x", [("code", "a`b"), ("text_link", "x")]),
        ("```py\nx = 1```", "x = 1", [("pre", "x = 1")]),
        (">q1\n>q2\nafter", "q1\nq2\nafter", [("blockquote", "q1\nq2\n")]),
    ],
)
def test_markdown_v2(source: str, text: str, entities: list[tuple[str, str]]) -> None:
    assert readable(parse_markdown_v2(source)) == (text, entities)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("Done.", "Character '.' is reserved and must be escaped with the preceding '\\'"),
        ("a *b", "Can't find end of Bold entity at byte offset 2"),
        ("`b", "Can't find end of Code entity at byte offset 0"),
    ],
)
def test_broken_markdown_v2(source: str, reason: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_markdown_v2(source)
    assert refused.value.description == f"Bad Request: can't parse entities: {reason}"


def test_older_markdown() -> None:
    parsed = parse_markdown("*b* _i_ `c` [x](https://example.org) \\_")
    assert readable(parsed) == ("b i c x _", [("bold", "b"), ("italic", "i"), ("code", "c"), ("text_link", "x")])
