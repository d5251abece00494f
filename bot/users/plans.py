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
    #: Seconds without anything to do after which an instance falls asleep.
    idle: float = 15 * 60.0
    #: Most seconds that it stays awake without a word from its person, whatever it says it has to do.
    awake: float = 2 * 3600.0
    #: Seconds that the button “Keep awake” gives.
    keep_awake: float = 24 * 3600.0
    #: Seconds asleep after which it is stopped, and at rest after which it is archived.
    stop_after: float = 4 * 24 * 3600.0
    archive_after: float = 28 * 24 * 3600.0

    def daily_tokens(self, settings: Settings) -> int:
        """Tokens of the model that an instance may use in a day (UTC)."""
        return settings.daily_tokens


PLANS: dict[str, Plan] = {plan.name: plan for plan in (Plan("standard"),)}
