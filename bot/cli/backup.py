"""`zaki backup`: copies of all that a lost machine would cost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from bot.cli.output import AsJson, ExitCode, Row, moment, print_details, print_json, print_rows, say

if TYPE_CHECKING:
    from bot.provisioner.backup.manifest import Manifest
    from bot.provisioner.backup.repository import Repository
    from bot.provisioner.backup.saving import Backup
    from bot.settings import Settings

app = typer.Typer(help="Copies of all that a lost machine would cost, in ZAKI_BACKUP.")


@app.callback(invoke_without_command=True)
def backup(
    context: typer.Context,
    keep_daily: Annotated[int, typer.Option(min=1, help="Of how many days the last backup is kept.")] = 7,
    keep_weekly: Annotated[int, typer.Option(min=0, help="Of how many weeks the last backup is kept.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Back up the database, the keys, the stacks and everybody's files, and read back what was written.

    An instance that is awake is frozen for as long as its files are read, seconds as a rule; its messages wait.
    """
    if context.invoked_subcommand is not None:
        return
    made = asyncio.run(_save(keep_daily, keep_weekly))
    row = {**backup_row(made), "instances": instance_rows(made.manifest)}
    print_details(row, as_json=as_json)
    if made.manifest.troubles:
        raise typer.Exit(ExitCode.FAILED)


@app.command("ls")
def ls(as_json: AsJson = False) -> None:
    """List the backups, and how old the copy of each instance in the newest one is."""

    async def read() -> list[Backup]:
        from bot.credentials import read_key
        from bot.provisioner.backup.saving import backups
        from bot.settings import load_settings

        settings = load_settings()
        with reading(settings, read_key(settings.state / "keys" / "backup.key").hex()) as repository:
            return await backups(repository)

    found = asyncio.run(read())
    if as_json:
        print_json([{**backup_row(one), "instances": instance_rows(one.manifest)} for one in found])
        return
    print_rows(
        [backup_row(one) for one in found],
        ("snapshot", "at", "instances", "oldest"),
        as_json=False,
        nothing="There are no backups yet.",
    )
    if found and (rows := instance_rows(found[0].manifest)):
        print_rows(rows, ("id", "as_of", "age", "held", "mib", "trouble"), as_json=False, nothing="")


@app.command("key")
def key() -> None:
    """Print the key of the backups. Keep it elsewhere than on this machine: without it no backup can be read."""
    from bot.credentials import load_key
    from bot.settings import load_settings

    typer.echo(load_key(load_settings().state / "keys" / "backup.key").hex())


async def _save(keep_daily: int, keep_weekly: int) -> Backup:
    from bot.cli.records import existing_database
    from bot.credentials import load_key, read_key
    from bot.provisioner.backup.repository import Repository, is_local
    from bot.provisioner.backup.saving import Retention, Saving
    from bot.provisioner.backup.scratch import scratch_folder
    from bot.provisioner.single import provisioning
    from bot.settings import load_settings

    settings = load_settings()
    async with existing_database(settings) as database:
        for name in ("front", "provisioner", "archive"):
            # A backup without the keys that there were is none.
            read_key(settings.state / "keys" / f"{name}.key")
        password = load_key(settings.state / "keys" / "backup.key").hex()
        if is_local(settings.effective_backup):
            say(
                f"{settings.effective_backup} is on this machine, and would be lost with it: copy it elsewhere, or set "
                "ZAKI_BACKUP to a repository that is elsewhere."
            )
        with scratch_folder(settings.state) as scratch:
            repository = Repository(settings.effective_backup, password, scratch, settings.backup_environment)
            async with provisioning(settings, database) as provisioner:
                return await Saving(provisioner, repository, scratch).save(Retention(keep_daily, keep_weekly))


def backup_row(one: Backup) -> Row:
    """What there is to say of one."""
    copies = one.manifest.copies.values()
    return {
        "snapshot": one.snapshot[:8],
        "at": moment(one.manifest.at),
        "instances": len(copies),
        "oldest": moment(min((copy.as_of for copy in copies), default=None)),
    }


def instance_rows(manifest: Manifest) -> list[Row]:
    """A row for each instance: how old its copy is, and why there is none of that day."""
    rows = []
    for instance_id in sorted({*manifest.copies, *manifest.troubles}):
        copy = manifest.copies.get(instance_id)
        rows.append(
            {
                "id": instance_id,
                "as_of": moment(copy.as_of) if copy else None,
                "age": _age(manifest.at - copy.as_of) if copy else "no copy",
                "held": copy.held.value if copy else None,
                "mib": copy.bytes // 2**20 if copy else None,
                "trouble": manifest.troubles.get(instance_id),
            }
        )
    return rows


def _age(seconds: float) -> str:
    hours = max(0, round(seconds)) // 3600
    if hours < 1:
        return "fresh"
    return f"{hours} hours" if hours < 48 else f"{hours // 24} days"


@contextmanager
def reading(settings: Settings, password: str) -> Iterator[Repository]:
    """The repository of backups, to read from; nothing here or there is changed."""
    import tempfile
    from pathlib import Path

    from bot.provisioner.backup.repository import Repository

    with tempfile.TemporaryDirectory(prefix="zaki-backup-") as scratch:
        yield Repository(settings.effective_backup, password, Path(scratch), settings.backup_environment)
