"""Sets of recommended skills, by need and by plan: a TOML file that the operator edits (`ZAKI_SKILL_SETS`)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from bot.skills.names import BadName, SkillName, parse
from bot.store.tables import SkillPolicy

#: What holds where the operator has no file of their own.
DEFAULT = Path(__file__).parent / "sets.toml"


class SetsError(Exception):
    """The file of sets cannot be used; the message is one sentence that says what to change."""


@dataclass(frozen=True)
class Recommended:
    """A skill of a set."""

    name: SkillName
    #: Exactly this version; None: the newest that passed.
    version: str | None = None
    policy: SkillPolicy = SkillPolicy.PATCH


@dataclass(frozen=True)
class SkillSet:
    """Skills for one need."""

    #: What a button or a command calls it.
    key: str
    title: str
    #: One sentence on what it is good for.
    says: str
    skills: tuple[Recommended, ...]


@dataclass(frozen=True)
class SkillSets:
    """All of them."""

    needs: tuple[SkillSet, ...] = ()
    #: By plan: what each of its instances has from the beginning.
    plans: MappingProxyType[str, tuple[Recommended, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def of_plan(self, plan: str) -> tuple[Recommended, ...]:
        """What an instance of the plan has from the beginning."""
        return self.plans.get(plan, ())

    def need(self, key: str) -> SkillSet | None:
        """The set for a need; None: there is none of that name."""
        return next((each for each in self.needs if each.key == key), None)


def load(path: Path | None) -> SkillSets:
    """The sets of a file, None: the default ones; raises :class:`SetsError`."""
    path = path or DEFAULT
    try:
        with path.open("rb") as file:
            found = _File.model_validate(tomllib.load(file))
    except OSError as error:
        raise SetsError(f"{path} cannot be read: {error.strerror}; set ZAKI_SKILL_SETS to a file of sets.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetsError(f"{path} is no TOML: {error}.") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part != "function-after[_right(), _Entry]")
        raise SetsError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ').rstrip('.')}.") from None
    needs = tuple(
        SkillSet(key, need.title, need.says, tuple(entry.recommended for entry in need.skills))
        for key, need in found.needs.items()
    )
    plans = {plan: tuple(entry.recommended for entry in entries) for plan, entries in found.plans.items()}
    return SkillSets(needs, MappingProxyType(plans))


class _Entry(BaseModel):
    """`"@owner/name"`, `"@owner/name@1.2.3"`, or a table with a policy beside it."""

    model_config = ConfigDict(extra="forbid")

    skill: str
    policy: SkillPolicy | None = None

    @field_validator("skill")
    @classmethod
    def _named(cls, value: str) -> str:
        try:
            parse(value)
        except BadName as error:
            raise ValueError(str(error)) from None
        return value

    @property
    def recommended(self) -> Recommended:
        name, version = parse(self.skill)
        # Who names a version wants that one.
        policy = self.policy or (SkillPolicy.PATCH if version is None else SkillPolicy.PIN)
        return Recommended(name, version if policy is SkillPolicy.PIN else None, policy)


def _entries(value: Any) -> Any:
    if isinstance(value, list):
        return [{"skill": each} if isinstance(each, str) else each for each in value]
    return value


_Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
#: Keys stand in the data of buttons, of which Telegram takes 64 bytes.
_Key = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,23}$")]


class _Need(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: _Line
    says: _Line
    skills: list[_Entry] = Field(min_length=1, max_length=20)

    _short = field_validator("skills", mode="before")(_entries)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    needs: dict[_Key, _Need] = Field(default_factory=dict)
    plans: dict[str, list[_Entry]] = Field(default_factory=dict)

    @field_validator("plans", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {plan: _entries(entries) for plan, entries in value.items()} if isinstance(value, dict) else value
