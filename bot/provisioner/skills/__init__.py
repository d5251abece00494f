"""Skills in instances: brought to what is wished, and taken away where they were recalled."""

from bot.provisioner.skills.decision import Act, Step
from bot.provisioner.skills.installing import Installing
from bot.provisioner.skills.looking import is_strange, steps
from bot.provisioner.skills.recalling import Recalling

__all__ = ["Act", "Installing", "Recalling", "Step", "is_strange", "steps"]
