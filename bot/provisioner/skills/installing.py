"""Installs, updates and removes skills in an instance that is up, by OpenClaw's own client, and looks what came of it.

Everything may be killed anywhere: what is there is seen, not remembered. While an update is tried, the version before
lies aside and takes its place again unless the new one is proven.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import structlog

from bot.nudge import Topic
from bot.provisioner.containers import ContainerError, Executed
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.openclaw import HOME
from bot.provisioner.skills import looking
from bot.provisioner.skills.decision import Act, Step
from bot.provisioner.skills.folders import SKILLS, Files, Folder, TooMuch, skills_in
from bot.provisioner.work import Work
from bot.skills import locks
from bot.skills.names import Reference, SkillName
from bot.store import now
from bot.store.tables import Announcement, Base, News, SkillOrigin, SkillState, SkillStatus

_log = structlog.get_logger(__name__)

#: Seconds that OpenClaw's client may take: it starts in three, and the mirror may have to fetch and vet first.
INSTALL_WITHIN = 300.0
_SHELL_WITHIN = 120.0
#: From where else OpenClaw takes skills, which its client fills with `--global`; below the home folder.
_ELSEWHERE = (".openclaw/skills", ".agents/skills", ".openclaw/workspace/.agents/skills")
#: Where the version before an update lies meanwhile.
ASIDE = ".zaki/skills"
_CLIENT = ("/usr/local/bin/node", "/app/openclaw.mjs", "skills")
#: Letters of a client's own words in a sentence of ours.
_WORDS = 240
_SET_ASIDE = 'mkdir -p "$3" && rm -rf -- "$3/$2" && cp -a -- "$1/$2" "$3/.$2" && mv -T -- "$3/.$2" "$3/$2"'
#: A client that Docker lost sight of may still be at work.
_PUT_BACK = """\
for each in /proc/[0-9]*; do
  case "$(tr '\\0' ' ' 2>/dev/null < "$each/cmdline")" in
    *"/openclaw.mjs skills "[i]"nstall @"*"/$2 "*) kill -s KILL -- "-${each#/proc/}" "${each#/proc/}" ;;
  esac
done 2>/dev/null
mkdir -p "$1"
chmod -R u+rwX "$1/$2" 2>/dev/null
rm -rf -- "$1/$2" && mv -T -- "$3/$2" "$1/$2"
"""
_FORGET = 'rm -rf -- "$3/$2" "$3/.$2"'
#: Removes a skill as OpenClaw's documentation does by hand: its folders, and its line in the client's list.
_REMOVE = """\
const fs = require("node:fs");
const [folder, list, slug, ...paths] = process.argv.slice(1);
for (const path of paths) fs.rmSync(path, { recursive: true, force: true });
if (fs.existsSync(`${folder}/${slug}`)) process.exit(0);
let kept;
try { kept = JSON.parse(fs.readFileSync(list, "utf8")); } catch { process.exit(0); }
for (const key of Object.keys(kept.skills ?? {})) if (key === slug || key.endsWith(`/${slug}`)) delete kept.skills[key];
fs.writeFileSync(`${list}.zaki`, JSON.stringify(kept, null, 2) + "\\n");
fs.renameSync(`${list}.zaki`, list);
"""


class Installing:
    """Carries out steps about skills; whoever calls holds the instance's lease, and the instance is up."""

    def __init__(self, context: ProvisionerContext) -> None:
        self._context = context
        self._containers = context.containers

    async def carry_out(self, work: Work, steps: Sequence[Step]) -> None:
        """One after the other; what fails is noted, told, and does not keep the others."""
        try:
            await self._tidy(work)
        except (ContainerError, TooMuch) as error:
            _log.warning("what an update left aside stays there", instance=work.instance.id, reason=str(error))
        for step in steps:
            if not await work.is_wanted_up():
                return
            try:
                await self._step(work, step)
            except (ContainerError, TooMuch) as error:
                await self._failed(work, step, f"It could not be looked at: {error}")
        self._context.nudge.ring(Topic.INSTANCES)

    async def _step(self, work: Work, step: Step) -> None:
        match step.act:
            case Act.INSTALL:
                await self._install(work, step)
            case Act.UPDATE:
                await self._update(work, step)
            case Act.REMOVE:
                await self._remove(work, step)
            case Act.ASK:
                await self._note(work, step.name, SkillStatus.ASKS, await self._installed(work, step.name), step)
            case Act.SETTLE:
                await self._write(work, step.name, SkillStatus.INSTALLED, step.version, None, None, "")
            case Act.FAIL:
                await self._failed(work, step, step.says)

    async def _install(self, work: Work, step: Step) -> None:
        found = await self._find(work, step.name)
        if found is None:
            if await self._folder(work, step.name) is not None:
                says = f"There is something else in the assistant's folder skills/{step.name.slug}; remove that first."
                await self._failed(work, step, says)
                return
            await self._note(work, step.name, SkillStatus.INSTALLING, None, step)
            ended = await self._run(work, step)
            found = await self._find(work, step.name)
            if found is None:
                await self._failed(work, step, last_words(ended))
                return
            if step.version is not None and found.reference.version != step.version:
                await self._failed(work, step, f"The client installed {found.reference.version} instead.")
                return
        await self._have(work, step, found, News.SKILL_INSTALLED)

    async def _update(self, work: Work, step: Step) -> None:
        before = await self._find(work, step.name)
        if before is None:
            await self._failed(work, step, "Its files were changed in the assistant, so it is not updated over them.")
            return
        if before.reference.version != step.version:
            await self._note(work, step.name, SkillStatus.INSTALLING, before.reference.version, step)
            await self._shell(work, _SET_ASIDE, step.name)
            try:
                ended = await self._run(work, step, "--force")
                after = await self._find(work, step.name)
            except (ContainerError, TooMuch) as error:
                await self._give_up(work, step, before.reference.version, str(error))
                return
            if after is None or after.reference.version != step.version:
                await self._shell(work, _PUT_BACK, step.name)
                back = await self._find(work, step.name)
                await self._failed(work, step, last_words(ended), back.reference.version if back is not None else None)
                return
            before = after
        await self._shell(work, _FORGET, step.name)
        await self._have(work, step, before, News.SKILL_UPDATED)

    async def _give_up(self, work: Work, step: Step, before: str, why: str) -> None:
        """Put the version before back after an update of which Docker does not say how far it came."""
        try:
            await self._shell(work, _PUT_BACK, step.name)
        except ContainerError as error:
            # It stays "installing", so it is soon looked at again, which begins with what lies aside.
            _log.warning("an update was not taken back", instance=work.instance.id, reason=str(error))
            return
        await self._failed(work, step, f"It could not be looked at: {why}", before)

    async def _remove(self, work: Work, step: Step) -> None:
        await self._note(work, step.name, SkillStatus.REMOVING, step.version, step)
        if paths := await self._copies(work, step.name):
            workspace = f"{HOME}/{SKILLS.rpartition('/')[0]}"
            words = [f"{HOME}/{SKILLS}", f"{workspace}/.clawhub/lock.json", step.name.slug, *paths]
            await self._execute(work, [_CLIENT[0], "-e", _REMOVE, *words], _SHELL_WITHIN)
            if await self._copies(work, step.name):
                await self._failed(work, step, "It could not be removed.", step.version)
                return
        async with self._context.database.write() as session:
            await locks.uninstalled(session, work.instance.id, step.name)
            state = await session.get(SkillState, (work.instance.id, step.name.owner, step.name.slug))
            if state is not None:
                await session.delete(state)

    async def _tidy(self, work: Work) -> None:
        """Put back what a killed update left aside, unless the new version is whole."""
        read = self._containers.read_folder(work.instance.id, ASIDE)
        for left in await skills_in(read, ASIDE):
            slug = left.path.removeprefix(f"{ASIDE}/")
            if "/" in slug:
                continue
            name = SkillName(str(left.origin.get("ownerHandle") or ""), slug.removeprefix("."))
            whole = await self._find(work, name)
            await self._shell(work, _FORGET if whole is not None or slug.startswith(".") else _PUT_BACK, name)

    async def _run(self, work: Work, step: Step, *words: str) -> Executed:
        version = ("--version", step.version) if step.version is not None else ()
        command = [*_CLIENT, "install", str(step.name), *version, *words]
        return await self._execute(work, command, INSTALL_WITHIN)

    async def _shell(self, work: Work, script: str, name: SkillName) -> None:
        """Run one of our lines with the folder of skills, the skill's name and the folder aside."""
        words = [f"{HOME}/{SKILLS}", name.slug, f"{HOME}/{ASIDE}"]
        ended = await self._execute(work, ["/bin/sh", "-c", script, "sh", *words], _SHELL_WITHIN)
        if ended.code != 0:
            raise ContainerError(last_words(ended))

    async def _execute(self, work: Work, command: Sequence[str], within: float) -> Executed:
        return await self._containers.execute(work.instance.id, command, self._context.skills_environment, within)

    async def _folder(self, work: Work, name: SkillName) -> Folder | None:
        """What lies where OpenClaw puts the skill."""
        path = f"{SKILLS}/{name.slug}"
        found = await skills_in(self._containers.read_folder(work.instance.id, SKILLS), SKILLS)
        return next((folder for folder in found if folder.path == path), None)

    async def _copies(self, work: Work, name: SkillName) -> list[str]:
        """Where OpenClaw would take the skill from, whatever its version; not what only has its name."""
        digests = {files.digest for files in await self._known(name)}
        paths = []
        for place in (SKILLS, *_ELSEWHERE):
            for folder in await skills_in(self._containers.read_folder(work.instance.id, place), place):
                if folder.is_noted_as(name) or folder.digest in digests:
                    paths.append(f"{HOME}/{folder.path}")
        return paths

    async def _known(self, name: SkillName) -> list[Files]:
        async with self._context.database.read() as session:
            return await looking.vetted(session, name)

    async def _find(self, work: Work, name: SkillName) -> Files | None:
        """Which version of the skill is there, whole and unchanged; None: none is."""
        folder = await self._folder(work, name)
        if folder is None or folder.digest is None:
            return None
        noted = folder.origin.get("installedVersion")
        same = [files for files in await self._known(name) if files.digest == folder.digest]
        return next((files for files in same if files.reference.version == noted), same[0] if same else None)

    async def _installed(self, work: Work, name: SkillName) -> str | None:
        async with self._context.database.read() as session:
            held = await locks.of_instance(session, work.instance.id)
        mine = [lock for lock in held if SkillName(lock.owner, lock.slug) == name]
        return next((lock.version for lock in mine if lock.origin == SkillOrigin.INSTALL), None)

    async def _have(self, work: Work, step: Step, files: Files, news: News) -> None:
        """It is there: looked at, so noted and told."""
        reference = Reference(step.name, files.reference.version)
        async with self._context.database.write() as session:
            await locks.settle(session, work.instance.id, reference, files.digest)
        says = f"{step.name} {reference.version} is installed."
        quiet = news is News.SKILL_INSTALLED and not step.urgent
        told = [] if quiet else _news(work, news, step.name, reference.version, says)
        await self._write(work, step.name, SkillStatus.INSTALLED, reference.version, None, None, "", *told)
        _log.info("a skill is installed", instance=work.instance.id, skill=str(reference))

    async def _failed(self, work: Work, step: Step, says: str, version: str | None = None) -> None:
        """Note that it failed, and tell it once."""
        if version is None:
            version = await self._installed(work, step.name) if step.act is not Act.INSTALL else None
        async with self._context.database.read() as session:
            state = await session.get(SkillState, (work.instance.id, step.name.owner, step.name.slug))
        known = state is not None and state.state == SkillStatus.FAILED and state.detail == says
        told = [] if known else _news(work, News.SKILL_FAILED, step.name, step.version, says)
        await self._write(work, step.name, SkillStatus.FAILED, version, step.version, None, says, *told)
        _log.warning("a skill could not be brought about", instance=work.instance.id, skill=str(step.name), reason=says)

    async def _note(self, work: Work, name: SkillName, status: SkillStatus, version: str | None, step: Step) -> None:
        if status is not SkillStatus.ASKS:
            await self._write(work, name, status, version, step.version, None, "")
            return
        says = f"Version {step.version} of {name} needs more than the installed one."
        told = _news(work, News.SKILL_ASKS, name, step.version, says, asks=step.asks)
        await self._write(work, name, status, version, step.version, step.asks, says, *told)

    async def _write(
        self,
        work: Work,
        name: SkillName,
        status: SkillStatus,
        version: str | None,
        offered: str | None,
        asks: Any,
        detail: str,
        *beside: Base,
    ) -> None:
        async with self._context.database.write() as session:
            session.add_all(beside)
            await session.merge(
                SkillState(
                    instance_id=work.instance.id,
                    owner=name.owner,
                    slug=name.slug,
                    state=status,
                    version=version,
                    offered=offered,
                    asks=dict(asks) if asks else None,
                    detail=detail,
                    updated_at=now(),
                )
            )


def _news(work: Work, news: News, name: SkillName, version: str | None, says: str, **more: Any) -> list[Announcement]:
    """What its person is told; nobody of the pool's."""
    if work.user is None:
        return []
    detail = {"owner": name.owner, "slug": name.slug, "version": version, "says": says, **more}
    return [Announcement(telegram_id=work.user.telegram_id, news=news, detail=detail, created_at=now())]


def last_words(ended: Executed) -> str:
    """Why a client failed, from what it printed last: in its own words, without anything that is no letter."""
    if ended.code == 124:
        return "Its installation took too long and was ended."
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", ended.output)
    lines = [line for line in plain.splitlines() if re.search(r"[A-Za-z]{2}", line)]
    # It draws a box around what its person should read.
    framed = [line.strip("│ ") for line in lines if line.strip().startswith("│")]
    words = " ".join(" ".join(framed or lines[-1:]).split())
    return "".join(letter for letter in words if letter.isprintable())[:_WORDS] or (
        f"Its installation ended with {ended.code}."
    )
