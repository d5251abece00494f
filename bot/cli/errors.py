"""From an exception to a sentence on standard error and an exit code."""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path

from bot.cli.output import CliError, ExitCode

#: What our own packages raise is written for people.
_OURS = ("bot", "infra")
#: By name: their modules need Pulumi, which most commands never import.
_POLICY = {"PolicyViolation", "StackRefused", "Refused"}


def explain(error: Exception) -> tuple[str, ExitCode]:
    """The sentence and the exit code of what ended a command."""
    if isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        return explain(error.exceptions[0])
    if isinstance(error, CliError):
        return str(error), error.code
    names = {cls.__name__ for cls in type(error).__mro__}
    if type(error).__module__.partition(".")[0] in _OURS:
        if names & _POLICY:
            return str(error), ExitCode.REFUSED
        return str(error), ExitCode.USAGE if "SettingsError" in names else ExitCode.FAILED
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; `zaki doctor` may know the cure.", ExitCode.FAILED
    if "DBAPIError" in names:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        return f"The database did not do it ({reason}); check ZAKI_DATABASE_URL and ZAKI_STATE.", ExitCode.FAILED
    if type(error).__module__.startswith(("aiodocker", "aiohttp")):
        return f"Docker does not answer ({error}); `zaki doctor` names the cure.", ExitCode.FAILED
    return f"This should not happen ({type(error).__name__}); {_keep(error)}", ExitCode.FAILED


def _keep(error: Exception) -> str:
    """Write the traceback beside the other logs, for whoever repairs it."""
    from bot.toolchain import cache_folder

    path: Path = cache_folder() / "log" / f"crash-{time.strftime('%Y%m%dT%H%M%S')}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(f"{sys.argv}\n{''.join(traceback.format_exception(error))}")
    except OSError:
        return f"{error}."
    return f"the details are in {path}."
