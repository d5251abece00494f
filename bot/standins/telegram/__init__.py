"""A Telegram Bot API to run Zaki against without a token: real enough for bots, with a chat page for people."""

from bot.standins.telegram.app import create_app
from bot.standins.telegram.client import SimulatorClient
from bot.standins.telegram.clock import Clock, ManualClock, SystemClock
from bot.standins.telegram.config import SimulatorConfig
from bot.standins.telegram.server import running, serve
from bot.standins.telegram.simulator import Simulator

__all__ = [
    "Clock",
    "ManualClock",
    "Simulator",
    "SimulatorClient",
    "SimulatorConfig",
    "SystemClock",
    "create_app",
    "running",
    "serve",
]
