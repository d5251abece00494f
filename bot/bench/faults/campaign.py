"""`kill -9` of front, provisioner, engine and instances at random moments while people write.

Whom it kills when, and what people write when, is drawn from one seed, so a failing campaign can be run again; the
machine's own timing is not the same each time, so it may take a few runs to see the same thing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import or_, select

from bot.bench.faults import remains as left
from bot.bench.faults.account import Account, settle
from bot.bench.faults.person import Habits, Person
from bot.bench.faults.victims import Victim, instances, kill_instance, kill_process, printed
from bot.bench.faults.world import Wants, World, world
from bot.provisioner.engine import processes_on
from bot.provisioner.reconcile import SOUND_AFTER
from bot.serve import Role
from bot.store import now
from bot.store.tables import Instance

_NAMES = (
    *("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Frances", "Ken", "Radia", "Niklaus", "Jean", "Tony"),
    *("Margaret", "Dennis", "Karen", "John", "Adele", "Leslie", "Hedy", "Claude"),
)
_LOOK_EVERY = 1.0
_ROLES = {Victim.FRONT: Role.FRONT, Victim.PROVISIONER: Role.PROVISIONER}
#: Seconds without a change after which nothing more is expected to come.
_QUIET = 5.0
#: Seconds of quiet after which somebody who waits for a reply writes again.
_ASKS_AGAIN_AFTER = 15.0
#: Seconds that an engine is waited for, and that most of them run.
_ENGINE_COMES = 30.0
_ENGINE_RUNS = 1.5
#: How many of a role's starts are killed too.
_AT_THE_START = 0.25
#: Seconds from an end to its discovery.
_TO_BE_NOTICED = 5.0


@dataclass(frozen=True)
class Shape:
    """How a campaign is run; times are seconds."""

    seed: int
    kills: int
    people: int
    #: Mean time between two messages of one person.
    message_every: float
    idle: float
    pool: int
    #: Mean time until the next kill of each kind.
    every: Mapping[Victim, float]
    #: How long an instance is spared after it was killed.
    spare: float
    #: How long everything may take to settle after the last kill.
    patience: float


@dataclass
class Outcome:
    """What a campaign found."""

    account: Account
    leftovers: list[str]
    kills: Counter[Victim]
    seconds: float
    departures: int


@dataclass
class _Kills:
    """What is to be killed, and what was."""

    most: int
    done: Counter[Victim] = field(default_factory=Counter)
    #: When each instance was killed last.
    instances: dict[str, float] = field(default_factory=dict)
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    def count(self, victim: Victim) -> None:
        self.done[victim] += 1
        if self.done.total() >= self.most:
            self.enough.set()


async def run(shape: Shape, image: str | None, log: Path, tell: Callable[[str], None]) -> Outcome:
    """Run a campaign to its end; `log` gets what the service logs, and each kill."""
    draw = random.Random(shape.seed)  # noqa: S311 - to be drawn again
    wants = Wants(image, shape.idle, shape.pool, webhook=draw.random() < 0.5)
    async with world(wants, log, tell) as made:
        everybody = await _people(made, shape)
        kills = _Kills(shape.kills)
        began = time.monotonic()
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for person in everybody:
                group.create_task(person.live(stop))
            for victim in Victim:
                group.create_task(_kill(made, shape, victim, kills, log))
            group.create_task(_progress(kills, everybody, began, tell))
            await kills.enough.wait()
            tell("the last kill is done; people finish")
            stop.set()
        unsettled = await _settled(made, everybody, shape.patience, tell)
        account = settle([await person.chat() for person in everybody])
        if account.lost or account.duplicated or account.out_of_order:
            await _note_chats(made, everybody, log)
        leftovers = [*made.roles.crashes, *unsettled, *await left.remains(made)]
        leftovers += await _everybody_leaves(made, everybody, shape.patience, tell)
        departures = sum(person.departures for person in everybody)
        return Outcome(account, leftovers, kills.done, time.monotonic() - began, departures)


async def _people(made: World, shape: Shape) -> list[Person]:
    everybody = []
    for number in range(shape.people):
        name = _NAMES[number % len(_NAMES)]
        who = await made.people.new_user(first_name=name, user_id=7_000_000_000 + number)
        # A third of them come and go, so that there is always something to make and to remove.
        habits = Habits(shape.message_every, 1.5 * shape.idle, leaves=number % 3 == 2)
        draw = random.Random(f"{shape.seed} {number}")  # noqa: S311 - to be drawn again
        everybody.append(Person(made.people, who, habits, draw))
    return everybody


async def _kill(made: World, shape: Shape, victim: Victim, kills: _Kills, log: Path) -> None:
    """Kill one kind until there were enough of all."""
    draw = random.Random(f"{shape.seed} {victim}")  # noqa: S311 - to be drawn again
    ways: Mapping[Victim, Callable[[], Awaitable[str | None]]] = {
        Victim.FRONT: lambda: _kill_role(made, Role.FRONT),
        Victim.PROVISIONER: lambda: _kill_role(made, Role.PROVISIONER),
        Victim.ENGINE: lambda: _kill_engine(made, draw),
        Victim.INSTANCE: lambda: _kill_an_instance(made, shape, draw, kills),
    }
    while not kills.enough.is_set():
        await asyncio.sleep(draw.expovariate(1 / shape.every[victim]))
        if kills.enough.is_set():
            return
        who = await ways[victim]()
        if who is None:
            await asyncio.sleep(0.05)
            continue
        kills.count(victim)
        at = time.time()
        with log.open("a") as written:
            written.write(f"--- kill {kills.done.total()} at {at:.3f}: {victim} {who}\n")
        if victim in _ROLES and draw.random() >= _AT_THE_START:
            # Else nothing would ever be done on a slow machine.
            await made.until_ready(_ROLES[victim], at)


async def _kill_role(made: World, role: Role) -> str | None:
    pid = made.roles.pid(role)
    return str(pid) if made.roles.kill(role) else None


async def _kill_engine(made: World, draw: random.Random) -> str | None:
    """One of the engine's processes, at any moment of its life."""
    later, chance = draw.uniform(0.0, _ENGINE_RUNS), draw.random()
    deadline = time.monotonic() + _ENGINE_COMES
    while not processes_on(made.settings.state):
        if time.monotonic() > deadline:
            return None
        await asyncio.sleep(0.02)
    await asyncio.sleep(later)
    there = sorted(processes_on(made.settings.state))
    if not there:
        return None
    pid = there[int(chance * len(there))]
    return str(pid) if kill_process(pid) else None


async def _kill_an_instance(made: World, shape: Shape, draw: random.Random, kills: _Kills) -> str | None:
    chance = draw.random()
    at = time.monotonic()
    spared = {name for name, killed in kills.instances.items() if at - killed < shape.spare} | await _unsound(made)
    there = [name for name in await instances(made.host.network) if name not in spared]
    if not there:
        return None
    name = there[int(chance * len(there))]
    if not await kill_instance(name):
        return None
    kills.instances[name] = at
    return name


async def _unsound(made: World) -> set[str]:
    """Instances that would be in a crash loop if they ended now: they wait for longer each time, by design."""
    since = Instance.ready_at > now() - SOUND_AFTER - _TO_BE_NOTICED
    query = select(Instance.id).where(Instance.repairs > 0, or_(Instance.ready_at.is_(None), since))
    async with made.database.read() as session:
        return set(await session.scalars(query))


async def _progress(kills: _Kills, everybody: list[Person], began: float, tell: Callable[[str], None]) -> None:
    step = max(1, kills.most // 20)
    told = 0
    while not kills.enough.is_set():
        await asyncio.sleep(_LOOK_EVERY)
        if kills.done.total() // step > told:
            told = kills.done.total() // step
            who = ", ".join(f"{victim} {kills.done[victim]}" for victim in Victim)
            messages = sum(len(person.sent) for person in everybody)
            tell(
                f"{kills.done.total()} of {kills.most} kills ({who}), {messages} messages, "
                f"{time.monotonic() - began:.0f} s"
            )


async def _settled(made: World, everybody: list[Person], patience: float, tell: Callable[[str], None]) -> list[str]:
    """Wait until everybody has their replies and nothing is under way, for a while; what is under way at the end."""
    deadline = time.monotonic() + patience
    quiet_since = time.monotonic()
    asked: set[int] = set()
    while True:
        waits = await left.under_way(made)
        owed = [person for person in everybody if not await person.has_all_replies()]
        at = time.monotonic()
        if waits:
            quiet_since = at
        elif at - quiet_since >= _QUIET and not owed:
            return []
        elif at - quiet_since >= _ASKS_AGAIN_AFTER:
            for person in owed:
                if person.who.id not in asked:
                    asked.add(person.who.id)
                    await person.ask_again()
        if at > deadline:
            tell(f"not settled within {patience:.0f} s")
            return waits
        await asyncio.sleep(_LOOK_EVERY)


async def _note_chats(made: World, everybody: list[Person], log: Path) -> None:
    """For whoever looks for the cause: what people saw, and what the gateways printed."""
    with log.open("a") as written:
        for person in everybody:
            chat = await person.chat()
            written.write(f"--- {chat.person} ({person.who.id}) sent {chat.sent} and saw {list(chat.shown)}\n")
        for name in await instances(made.host.network):
            written.write(f"--- {name} printed\n{await printed(name)}\n")


async def _everybody_leaves(
    made: World, everybody: list[Person], patience: float, tell: Callable[[str], None]
) -> list[str]:
    tell("everybody deletes everything")
    try:
        async with asyncio.timeout(patience), asyncio.TaskGroup() as group:
            for person in everybody:
                group.create_task(person.delete())
    except TimeoutError:
        return ["somebody's deletion did not end"]
    unsettled = await _settled(made, [], patience, tell)
    gone = await left.remains_of_people(made, [person.who.id for person in everybody])
    return [*unsettled, *gone, *await left.remains(made)]
