"""A fast stand-in for an OpenClaw 2026.9.6 gateway, for tests of the front and of the provisioner."""

from bot.standins.instance.config import ConfigError, InstanceConfig
from bot.standins.instance.instance import StandInInstance

__all__ = ["ConfigError", "InstanceConfig", "StandInInstance"]
