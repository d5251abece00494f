"""A stand-in for ClawHub: its API, with skills of every kind that a mirror has to cope with, and faults on request."""

from bot.standins.registry.app import registry_app
from bot.standins.registry.catalogue import samples
from bot.standins.registry.faults import Fault
from bot.standins.registry.registry import Published, Registry, Release

__all__ = ["Fault", "Published", "Registry", "Release", "registry_app", "samples"]
