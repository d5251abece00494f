"""What the echo model answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bot.standins.model.envelope import Asked
from bot.standins.model.skills import Reply, reply_to


def said(words: str, pictures: int = 0, before: Sequence[str] = (), tools: Sequence[str] = ()) -> Reply:
    return reply_to(Asked(words=words, pictures=pictures, before=before, tools=tools))


def test_echoes_in_more_than_one_piece() -> None:
    reply = said("hello  there\nyou")
    assert reply.text == "You wrote: hello  there\nyou"
    assert len(reply.pieces) > 2


def test_a_job_is_told_apart_from_its_person() -> None:
    assert reply_to(Asked(words="say good morning", scheduled=True)).text == "It is time: say good morning"
    assert reply_to(Asked(words="wait 3", scheduled=True)).wait == 3


def test_sees_pictures() -> None:
    assert said("", pictures=1).text == "I see 1 picture."
    assert said("my cats", pictures=2).text == "I see 2 pictures. You wrote: my cats"
    assert said("").text == "You wrote nothing."


def test_help_names_only_what_works() -> None:
    named = [line.split("`")[1] for line in said("help").text.splitlines() if line.startswith("- `")]
    assert len(named) >= 8
    for example in named:
        assert not said(example, before=["x"], tools=["ls"]).text.startswith("You wrote"), example


def test_counts_slowly() -> None:
    reply = said("Count to 3")
    assert reply.text.endswith(": 1 2 3")
    assert reply.pause > 0


def test_waits_but_not_for_ever() -> None:
    assert said("wait 3").wait == 3
    assert said("wait 999999").wait == 120


def test_writes_more_than_one_telegram_message() -> None:
    lines = said("long").text.splitlines()
    assert len("\n".join(lines)) > 4096
    assert [line.split()[1] for line in lines] == [str(number) for number in range(1, 121)]


def test_remembers_within_the_conversation() -> None:
    assert said("what did I say?", before=["one", "two"]).text == "Before this you wrote: two"
    assert said("What did I say").text == "These are your first words to me."


def test_fails_as_a_provider_would() -> None:
    assert said("error").failure is not None
    failure = said("error 429").failure
    assert failure is not None
    assert failure.status == 429
    assert said("error 200").failure is None


def test_calls_tools_that_are_offered() -> None:
    tool = said('tool: ls {"path": "."}', tools=["ls"]).tool
    assert tool is not None
    assert (tool.name, tool.arguments) == ("ls", '{"path": "."}')


@pytest.mark.parametrize("words", ["tool: rm {}", "tool: ls [1]", "tool: ls {"])
def test_says_why_a_tool_cannot_be_called(words: str) -> None:
    reply = said(words, tools=["ls"])
    assert reply.tool is None
    assert "ls" in reply.text


def test_answers_after_a_tool() -> None:
    assert reply_to(Asked(words="tool: ls", tool_results=["a", "b"], tools=["ls"])).text == "The tool answered: b"


def test_is_silent_where_it_may_be() -> None:
    assert reply_to(Asked(words="If nothing is new, reply NO_REPLY.", silence="NO_REPLY")).text == "NO_REPLY"


def test_greets_in_a_new_session() -> None:
    assert reply_to(Asked(words="A new session was started via /new or /reset.", new_session=True)).text.startswith(
        "Hello"
    )
