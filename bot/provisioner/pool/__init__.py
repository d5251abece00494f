"""The warm pool: instances made ahead, each through a first turn and asleep, for whoever comes next."""

from bot.provisioner.pool.claiming import claim
from bot.provisioner.pool.rehearsal import WarmupFailed, warm
from bot.provisioner.pool.size import wanted_size
from bot.provisioner.pool.upkeep import Pool

__all__ = ["Pool", "WarmupFailed", "claim", "wanted_size", "warm"]
