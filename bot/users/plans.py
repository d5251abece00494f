"""Plans: how much of the host one instance may use."""

from __future__ import annotations

from dataclasses import dataclass

from bot.settings import Settings


@dataclass(frozen=True)
class Plan:
    """The limits of an instance."""

    name: str
    #: MiB of memory; OpenClaw needs 1,280 for its first turn.
    memory_mib: int = 2048
    #: MiB of memory and swap together, as Docker counts it: what a sleeper's memory moves to.
    swap_mib: int = 6144
    #: CPUs, a decimal number as Docker takes it.
    cpus: str = "2.0"
    pids: int = 512

    def daily_tokens(self, settings: Settings) -> int:
        """Tokens of the model that an instance may use in a day (UTC)."""
        return settings.daily_tokens


PLANS: dict[str, Plan] = {plan.name: plan for plan in (Plan("standard"),)}
