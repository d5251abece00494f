"""`zaki restore`: a backup onto an empty host."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.output import AsJson, CliError, ExitCode, Yes, ask, print_details, say

if TYPE_CHECKING:
    from bot.provisioner.backup.saving import Backup
    from bot.settings import Settings

_SNAPSHOT = re.compile(r"[0-9a-f]{8,64}")
_KEY = re.compile(r"[0-9a-f]{64}")


def restore(
    snapshot: Annotated[
        str | None, typer.Argument(help="Which backup, as `zaki backup ls` calls it; by default the newest.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would come back, and change nothing.")] = False,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help="A file with the key that `zaki backup key` printed; - is standard input."),
    ] = None,
    wake: Annotated[
        bool, typer.Option("--wake", help="Bring everybody's instance up at once, not with their next message.")
    ] = False,
    as_json: AsJson = False,
    yes: Yes = False,
) -> None:
    """Bring a backup back onto an empty host, from ZAKI_BACKUP; one that was cut off goes on.

    Everybody's files come back as archives, which their next message brings into an instance.
    """
    if snapshot is not None and not _SNAPSHOT.fullmatch(snapshot):
        raise CliError(f"{snapshot} is no backup's name; `zaki backup ls` lists them.", ExitCode.USAGE)
    from bot.cli.backup import backup_row, instance_rows
    from bot.settings import load_settings

    settings = load_settings()
    password = _password(settings, key_file)
    found = asyncio.run(_find(settings, password, snapshot))
    row = {**backup_row(found), "restored": not dry_run, "instances": instance_rows(found.manifest)}
    if not dry_run:
        people = len(found.manifest.copies)
        ask(f"Restore the backup {row['snapshot']} of {row['at']}, with the files of {people} people?", yes=yes)
        asyncio.run(_restore(settings, password, found, wake=wake))
        missing = sorted(found.manifest.troubles.keys() - found.manifest.copies.keys())
        if missing:
            say(f"There are no files of {', '.join(missing)} in this backup; they begin anew.")
    print_details(row, as_json=as_json)


def _password(settings: Settings, key_file: Path | None) -> str:
    present = settings.state / "keys" / "backup.key"
    if key_file is not None:
        given = sys.stdin.readline() if str(key_file) == "-" else key_file.read_text()
    elif present.exists():
        given = present.read_text()
    elif sys.stdin.isatty():
        given = typer.prompt("The key of the backups", hide_input=True, err=True)
    else:
        raise CliError(
            "The key of the backups is not here: give the file with what `zaki backup key` printed with --key-file.",
            ExitCode.USAGE,
        )
    if not _KEY.fullmatch(given.strip()):
        raise CliError("That is no key of backups: it is 64 digits and letters a to f, as `zaki backup key` prints it.")
    return given.strip()


async def _find(settings: Settings, password: str, snapshot: str | None) -> Backup:
    """The backup that is meant; one whose restore was begun before all others."""
    from bot.cli.backup import reading
    from bot.provisioner.backup.repository import HOST
    from bot.provisioner.backup.restoring import under_way
    from bot.provisioner.backup.saving import Backup, manifest_of

    begun = under_way(settings.state)
    if begun is not None and snapshot is not None and not begun.startswith(snapshot):
        raise CliError(f"The restore of {begun[:8]} was begun here; end that first, without naming another one.")
    wanted = begun or snapshot or ""
    with reading(settings, password) as repository:
        there = [one.id for one in await repository.snapshots() if HOST in one.tags and one.id.startswith(wanted)]
        if not there:
            what = f"no backup {wanted[:8]}" if wanted else "no backup"
            raise CliError(f"There is {what} in {repository.shown}; `zaki backup ls` lists what there is.")
        return Backup(there[-1], await manifest_of(repository, there[-1]))


async def _restore(settings: Settings, password: str, backup: Backup, *, wake: bool) -> None:
    from bot.provisioner.backup.repository import Repository
    from bot.provisioner.backup.restoring import Restoring, require_empty
    from bot.provisioner.backup.scratch import scratch_folder
    from bot.provisioner.containers import Containers

    settings.state.mkdir(mode=0o750, parents=True, exist_ok=True)
    with scratch_folder(settings.state) as scratch:
        await require_empty(settings)
        repository = Repository(settings.effective_backup, password, scratch, settings.backup_environment)
        await repository.unlock()
        async with Containers.connect() as containers:
            await Restoring(settings, repository, containers, backup).restore(wake=wake)
