"""What the buttons of skills stand for."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from bot.front.callbacks import Press
from bot.front.skillchat.keys import skill_key, version_key
from bot.front.talk import Button
from bot.skills.names import SkillName
from bot.store.tables import SkillPolicy

#: The action of all of them.
SKILLS: Final = "sk"
#: The last word of a button below the offer that follows the first reply.
OFFERED: Final = "o"


class Verb(StrEnum):
    """The first word of what a button says."""

    LIST = "list"  #: of what the person has; with the number of a page
    SHOW = "show"  #: a skill
    ADD = "add"  #: with the version that was shown
    REMOVE = "rm"
    ASK = "ask"  #: for words to search by
    HINTS = "hints"
    NEEDS = "needs"
    NEED = "need"  #: a set
    ADD_SET = "set"  #: with what was shown of it
    POLICY = "pol"  #: shown, or changed to the last word
    UPDATE = "yes"  #: with the version whose needs were shown
    KEEP = "no"
    OPTIONS = "opt"
    LATER = "later"


def button(label: str, verb: Verb, *words: str) -> Button:
    """A button that says a verb and words of letters, digits, `-` and `_`."""
    return Button(label, Press(SKILLS, ".".join((verb, *words))))


def of_skill(label: str, verb: Verb, name: SkillName, *words: str) -> Button:
    """A button about a skill."""
    return button(label, verb, skill_key(name), *words)


def of_version(label: str, verb: Verb, name: SkillName, version: str) -> Button:
    """A button about one version of it."""
    return of_skill(label, verb, name, version_key(name, version))


def of_policy(label: str, name: SkillName, policy: SkillPolicy) -> Button:
    """A button that changes how a skill is kept current."""
    return of_skill(label, Verb.POLICY, name, policy)
