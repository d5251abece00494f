"""How many tokens an answer took, by the provider's count, else by our estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bot.front.models.requests import tokens_in


@dataclass(frozen=True)
class Tokens:
    """What a call used."""

    prompt: int
    completion: int
    estimated: bool


class Meter:
    """Looks at a completion, or at each chunk of one."""

    def __init__(self, prompt_estimate: int) -> None:
        self._prompt_estimate = prompt_estimate
        self._characters = 0
        self._counted: Tokens | None = None

    def see(self, data: Mapping[str, Any]) -> None:
        """Take a completion or a chunk into account."""
        usage = data.get("usage")
        if isinstance(usage, dict):
            prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
            if isinstance(prompt, int) and isinstance(completion, int) and min(prompt, completion) >= 0:
                self._counted = Tokens(prompt, completion, estimated=False)
        for choice in data.get("choices") or ():
            if isinstance(choice, dict):
                self._characters += _characters(choice.get("delta") or choice.get("message"))

    @property
    def tokens(self) -> Tokens:
        """The provider's count where it came, else an estimate from what was seen."""
        if self._counted is not None:
            return self._counted
        completion = tokens_in(self._characters) if self._characters else 0
        return Tokens(self._prompt_estimate, completion, estimated=True)


def is_usage_alone(data: Mapping[str, Any]) -> bool:
    """Whether a chunk is the extra one that tells the usage and nothing else."""
    return data.get("choices") == [] and isinstance(data.get("usage"), dict)


def _characters(part: object) -> int:
    """Characters that the model wrote: text, reasoning, and arguments of tools."""
    if not isinstance(part, dict):
        return 0
    written = sum(
        len(part[name]) for name in ("content", "reasoning", "reasoning_content") if isinstance(part.get(name), str)
    )
    for call in part.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            written += sum(len(function[name]) for name in ("name", "arguments") if isinstance(function.get(name), str))
    return written
