"""The command `zaki`: one module for each noun; what a command needs is imported when it runs."""

from bot.cli.app import app, main, run

__all__ = ["app", "main", "run"]
