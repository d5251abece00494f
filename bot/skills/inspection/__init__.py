"""Looking into a skill's archive, in a process of its own: what it holds may be made to break whoever reads it."""

from bot.skills.inspection.apart import inspect_apart
from bot.skills.inspection.findings import Inspected

__all__ = ["Inspected", "inspect_apart"]
