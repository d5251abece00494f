"""Lets instances out by their policies: keeps the members of the firewall's sets, and the file that refills them.

The table itself is the host stack's (`infra/firewall.py`). A host that was declared without a firewall, as a demo's
is, has none: nothing is done there, and Docker alone says what an instance reaches.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from sqlalchemy import select

from bot.egress import Egress, strictest
from bot.hostfacts import EgressFacts
from bot.settings import Settings
from bot.store import Database
from bot.store.tables import Instance, Wish
from bot.users.plans import PLANS

_TABLE = "inet zaki"
_OPEN, _LIST = "egress_open", "egress_list"
#: Seconds that the kernel may take.
_PATIENCE = 20.0


class EgressUnavailable(Exception):
    """The firewall's sets cannot be changed, so nobody new is started; the message says why."""


@dataclass(frozen=True)
class Member:
    """An instance that may leave the bridge."""

    address: IPv4Address
    #: The proxy's port of its list; None: it may reach the whole internet.
    port: int | None

    def __str__(self) -> str:
        return f"{self.address} {'open' if self.port is None else self.port}"

    @property
    def element(self) -> str:
        """How `nft` names it, with its set."""
        if self.port is None:
            return f"element {_TABLE} {_OPEN} {{ {self.address} }}"
        return f"element {_TABLE} {_LIST} {{ {self.address} . {self.port} }}"

    @classmethod
    def parse(cls, line: str) -> Member:
        """From a line of the file; raises ValueError."""
        address, _, how = line.partition(" ")
        return cls(IPv4Address(address), None if how == "open" else int(how))


class EgressSets:
    """The sets of one host."""

    def __init__(self, facts: EgressFacts | None, nft: Sequence[str] = ("nft",)) -> None:
        """`facts` None: this host has no firewall. `nft` is how the kernel is spoken to."""
        self._facts = facts
        self._nft = (*nft, "-f", "-")

    def lack(self, plan: str, policy: Egress) -> str | None:
        """Why this host cannot hold an instance to the policy, and what to do, one sentence; None: it can."""
        if policy is Egress.OPEN:
            return None
        if self._facts is None:
            return (
                f"It may reach {'named domains' if policy is Egress.LIST else 'nothing'} only, and this host was "
                "declared without the firewall that holds it to that; set zaki:firewall and run `zaki host up`."
            )
        if policy is Egress.LIST and plan not in self._facts.proxies:
            return (
                f"It may reach named domains only, and this host has no list of them for the plan {plan}; set "
                "zaki:egress_lists and run `zaki host up`."
            )
        return None

    def member(self, address: IPv4Address, plan: str, policy: Egress) -> Member | None:
        """What an instance is in the sets; None: in none."""
        if policy is Egress.OPEN:
            return Member(address, None)
        proxy = self.proxy(plan) if policy is Egress.LIST else None
        return Member(address, int(proxy.rpartition(":")[2])) if proxy is not None else None

    def proxy(self, plan: str) -> str | None:
        """`address:port` of the proxy for the instances of a plan; None: there is none for them."""
        return self._facts.proxies.get(plan) if self._facts is not None else None

    async def admit(self, address: IPv4Address, member: Member | None) -> None:
        """Have the address be just this in the sets; raises :class:`EgressUnavailable`."""
        if self._facts is not None:
            await asyncio.to_thread(self._change, self._facts.members, address, member)

    async def refill(self, members: Iterable[Member]) -> None:
        """Have the sets hold just these; raises :class:`EgressUnavailable`."""
        if self._facts is not None:
            await asyncio.to_thread(self._replace, self._facts.members, list(members))

    def _change(self, path: Path, address: IPv4Address, member: Member | None) -> None:
        with _held(path):
            before = _read(path)
            stale = {found for found in before if found.address == address}
            # Where somebody took it out by hand the file does not know.
            stale |= {Member(address, None), *(Member(address, port) for port in self._ports())}
            _write(path, [*(found for found in before if found.address != address), *([member] if member else [])])
            lines = [line for one in sorted(stale, key=str) for line in (f"add {one.element}", f"delete {one.element}")]
            self._tell([*lines, *([f"add {member.element}"] if member else [])])

    def _replace(self, path: Path, members: Sequence[Member]) -> None:
        with _held(path):
            _write(path, members)
            flushed = [f"flush set {_TABLE} {name}" for name in (_OPEN, _LIST)]
            self._tell([*flushed, *(f"add {one.element}" for one in members)])

    def _ports(self) -> list[int]:
        proxies: Mapping[str, str] = self._facts.proxies if self._facts is not None else {}
        return [int(proxy.rpartition(":")[2]) for proxy in proxies.values()]

    def _tell(self, lines: Sequence[str]) -> None:
        """One transaction: all of it, or nothing."""
        text = "".join(f"{line}\n" for line in lines)
        try:
            done = subprocess.run(self._nft, input=text, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EgressUnavailable(f"The firewall of instances cannot be changed: {error}.") from None
        if done.returncode != 0:
            first = done.stderr.strip().partition("\n")[0]
            raise EgressUnavailable(
                f"The firewall of instances cannot be changed ({first}); zaki-firewall-check.timer puts it back."
            )


async def allowed(database: Database, settings: Settings, sets: EgressSets) -> list[Member]:
    """What every instance that has an address is in the sets, by what is wished for it now."""
    query = select(Instance.address, Instance.plan, Wish.egress).outerjoin(Wish, Wish.user_id == Instance.user_id)
    async with database.read() as session:
        rows = (await session.execute(query.where(Instance.address.is_not(None)))).all()
    members = (sets.member(IPv4Address(row.address), row.plan, policy(settings, row.plan, row.egress)) for row in rows)
    return [member for member in members if member is not None]


def policy(settings: Settings, plan: str, wished: str | None) -> Egress:
    """The strictest of what the plan, the operator's setting and the wish say; a wish for what does not exist: none."""
    base = strictest(PLANS.get(plan, PLANS["standard"]).egress, settings.egress)
    if wished is None:
        return base
    return strictest(base, Egress(wished) if wished in list(Egress) else Egress.NONE)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Nobody else reads or writes the file during the block, the firewall's own program neither."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise EgressUnavailable(
            f"{path.parent} cannot be opened ({error.strerror}); is zaki-firewall.service active?"
        ) from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _read(path: Path) -> list[Member]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Member.parse(line))
        except ValueError:
            continue
    return found


def _write(path: Path, members: Iterable[Member]) -> None:
    """The old file or the new one, never a part."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".members.", delete=False) as draft:
            draft.writelines(f"{member}\n" for member in members)
        Path(draft.name).replace(path)
    except OSError as error:
        raise EgressUnavailable(f"{path} cannot be written ({error.strerror}).") from None
