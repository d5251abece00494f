"""What a campaign counts, on made-up chats."""

from __future__ import annotations

import pytest

from bot.bench.faults.account import Chat, settle

MARK = "\n\n↻ may be a repeat"
UNCONFIRMED = "I couldn’t confirm whether my previous reply reached this chat, so I won’t resend it automatically."


def reply(number: int, mark: str = "") -> str:
    return f"You wrote: n.{number}{mark}"


def test_a_reply_to_each_in_order_is_nothing_to_complain_of() -> None:
    account = settle(
        [
            Chat("Ada", [0, 1, 2], ["⏳ Setting up", reply(0), "✅ Your assistant is ready.", reply(1), reply(2)]),
            Chat("Grace", [], ["Hello"]),
        ]
    )
    assert account.messages == 3
    assert (account.lost, account.duplicated, account.out_of_order, account.marked) == ([], [], [], [])
    assert account.unconfirmed == []


def test_a_message_without_a_reply_is_lost() -> None:
    account = settle([Chat("Ada", [0, 1, 11], [reply(11), reply(0)])])
    assert account.lost == ["Ada: the reply to n.1"]


def test_each_reply_beyond_the_first_is_a_duplicate() -> None:
    account = settle([Chat("Ada", [0, 1], [reply(0), reply(1), reply(0), reply(0)])])
    assert account.duplicated == ["Ada: the reply to n.0"] * 2
    assert account.out_of_order == []


def test_what_says_itself_that_it_may_be_a_repeat_is_counted_apart() -> None:
    account = settle([Chat("Ada", [0, 1, 2], [reply(0), reply(0, MARK), reply(1, MARK), reply(2)])])
    assert account.marked == ["Ada: the reply to n.0", "Ada: the reply to n.1"]
    assert (account.lost, account.duplicated) == ([], [])


def test_a_reply_after_that_to_a_later_message_is_out_of_order() -> None:
    account = settle([Chat("Ada", [0, 1, 2, 3], [reply(0), reply(2), reply(1), reply(3)])])
    assert account.out_of_order == ["Ada: the reply to n.1 came after that to n.2"]


def test_people_are_counted_apart() -> None:
    account = settle([Chat("Ada", [0], [reply(0)]), Chat("Grace", [0], [])])
    assert account.lost == ["Grace: the reply to n.0"]


def test_a_reply_that_the_gateway_says_it_will_not_send_again_is_counted_apart() -> None:
    account = settle([Chat("Ada", [0, 1, 2, 3], [reply(0), UNCONFIRMED, reply(3)])])
    assert account.unconfirmed == ["Ada: the reply to n.2"]
    assert account.lost == ["Ada: the reply to n.1"]


def test_what_the_gateway_says_without_need_is_counted_nowhere() -> None:
    account = settle([Chat("Ada", [0, 1, 2], [reply(0), UNCONFIRMED, reply(1), reply(2)])])
    assert (account.unconfirmed, account.lost) == ([], [])


def test_one_word_of_the_gateway_excuses_no_later_loss() -> None:
    account = settle([Chat("Ada", [0, 1, 2, 3], [reply(0), UNCONFIRMED, reply(1), reply(3)])])
    assert (account.unconfirmed, account.lost) == ([], ["Ada: the reply to n.2"])


@pytest.mark.parametrize("text", ["You wrote: n.17 or so", "n.17", "You wrote: n.", "You wrote: m.17"])
def test_other_words_are_no_reply(text: str) -> None:
    assert settle([Chat("Ada", [17], [text])]).lost == ["Ada: the reply to n.17"]
