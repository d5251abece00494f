"""The provisioner's life: startup, main loops, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import httpx
import structlog
from sqlalchemy import and_, false, func, not_, or_, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from bot.credentials import ArchiveKey, FrontKey, GatewayKey, load_key, new_instance_id
from bot.hostfacts import HostFacts
from bot.nudge import LOOK_AGAIN, Nudge, Topic
from bot.provisioner import clock, decisions, pool
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.decision import Action, Request
from bot.provisioner.engine import end_what_engines_left
from bot.provisioner.facts import is_pending
from bot.provisioner.health import Health
from bot.provisioner.lease import LeaseHeld, is_live, new_owner, release_dead
from bot.provisioner.operations import close_dead
from bot.provisioner.pool import Pool
from bot.provisioner.reconcile import SOUND_AFTER, Reconciler
from bot.provisioner.sleep import WakeAdmission, must_free, read_room
from bot.provisioner.stacks import StackManager
from bot.provisioner.waking import BACK_OFF
from bot.provisioner.work import InstanceBroken, InstanceStumbled, Refused
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import WAIT, ContainerState, Instance, User, Wanted, Wish
from bot.timeline import Stage, note
from bot.toolchain import Toolchain
from infra.spec import InstanceSpec

_log = structlog.get_logger(__name__)

#: Gateways that may start at the same time, each of which fills a core; a thaw costs nothing and does not count.
CONCURRENCY = 4
#: Instances that are looked at without being asked for at the same time, so that nobody waits for many of them.
_BACKGROUND = 8
#: Seconds between looks at the whole world, for what no event told us.
RESYNC_EVERY = 60.0
#: Seconds between looks at the machine's memory.
_RELIEVE_EVERY = 5.0
#: Seconds after which an end is not one of a row, and nobody is in a conversation any more; and the pause of one that
#: ends sooner, for nobody.
_LONG = 900.0
_UNATTENDED = 300.0
#: Seconds for which one that would not sleep is not asked again.
_SPARED_FOR = 60.0
_RETRY_AFTER = 5.0
_RETRY_AT_MOST = 60.0
#: Seconds between starts of a loop that fails at once; what Docker's return brings is seen within them.
_PAUSE_AT_MOST = 15.0


class Provisioner:
    """Makes the world follow the wishes; one for each node."""

    def __init__(
        self, settings: Settings, database: Database, nudge: Nudge, host: HostFacts, toolchain: Toolchain
    ) -> None:
        self._settings = settings
        self._database = database
        self._nudge = nudge
        self._host = host
        self._toolchain = toolchain
        self._exit = AsyncExitStack()
        self._loops: list[asyncio.Task[None]] = []
        self._working: dict[str, asyncio.Task[None]] = {}
        #: Those of them that nobody waits for.
        self._background: set[str] = set()
        self._failures: dict[str, int] = {}
        #: Until when, by the event loop's clock, one that would not sleep is not asked again while memory is short.
        self._spared: dict[str, float] = {}
        #: When, by the event loop's clock, one may be tried again whose last try failed.
        self._not_before: dict[str, float] = {}
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self.context: ProvisionerContext
        self.reconciler: Reconciler
        self.health: Health
        self.pool: Pool

    async def connect(self) -> None:
        """Open what single commands need, without the main loops; close it with :meth:`stop`."""
        keys = self._settings.state / "keys"
        containers = await self._exit.enter_async_context(Containers.connect())
        stacks = StackManager(self._toolchain, self._settings.state, containers)
        self._exit.push_async_callback(stacks.close)
        self.context = ProvisionerContext(
            settings=self._settings,
            database=self._database,
            nudge=self._nudge,
            host=self._host,
            front_key=FrontKey(load_key(keys / "front.key", shared=True)),
            gateway_key=GatewayKey(load_key(keys / "provisioner.key")),
            containers=containers,
            stacks=stacks,
            archive=Archive(self._settings.state, ArchiveKey(load_key(keys / "archive.key")), containers),
            http=await self._exit.enter_async_context(httpx.AsyncClient(trust_env=False)),
        )
        self.health = Health(self.context, self._begin)
        admission = WakeAdmission(self._count_awake, self._free_memory, self._note_wait)
        self.reconciler = Reconciler(self.context, new_owner(), admission, self._slots, self.health.missed)
        self.pool = Pool(
            self.context,
            self._begin,
            self.reconciler.give_back,
            lambda: bool(self._working.keys() - self._background),
        )

    async def start(self) -> None:
        """Connect, take over from a process that died, and begin the loops."""
        await self.connect()
        await release_dead(self._database)
        await close_dead(self._database)
        self._loops = [
            asyncio.create_task(end_what_engines_left(self._settings.state), name="engines"),
            asyncio.create_task(self._follow_wishes(), name="wishes"),
            asyncio.create_task(self._forever(self._watch_deaths), name="deaths"),
            asyncio.create_task(self._forever(self._resync_regularly), name="resync"),
            asyncio.create_task(self._forever(self._relieve_regularly), name="memory"),
            asyncio.create_task(self._forever(self.health.run), name="health"),
            asyncio.create_task(self._forever(self.pool.run), name="pool"),
        ]

    async def stop(self) -> None:
        """End the loops and what they work on; containers stay as they are."""
        tasks = [*self._loops, *self._working.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loops.clear()
        self._working.clear()
        await self._exit.aclose()

    async def reconcile(self, instance_id: str, request: Request | None = None) -> None:
        """Bring one instance to what it should be, or to what is asked for, now; raises what went wrong."""
        await self.reconciler.reconcile(instance_id, request)

    async def spec(self, instance_id: str) -> InstanceSpec | None:
        """What the instance's stack declares; None where there is no such instance."""
        async with self._database.read() as session:
            instance = await session.get(Instance, instance_id)
        return self.context.spec(instance) if instance is not None else None

    async def stop_all(self) -> None:
        """Stop every instance's container without a change to any wish; they come back at the next start."""
        states = await self.context.containers.states()
        async with self._database.read() as session:
            known = set(await session.scalars(select(Instance.id)))
        up = (ContainerState.RUNNING, ContainerState.PAUSED)
        ids = [instance_id for instance_id in known if states.get(instance_id) in up]
        await asyncio.gather(*(self.context.containers.stop(instance_id) for instance_id in ids))
        async with self._database.write() as session:
            await session.execute(
                update(Instance).where(Instance.id.in_(ids)).values(container=ContainerState.EXITED, ready_at=None)
            )

    async def remove_all(self) -> None:
        """Delete every instance: stack, container, volume and row."""
        async with self._database.write() as session:
            await session.execute(
                update(Wish).values(wanted=Wanted.ABSENT, generation=Wish.generation + 1, asked_at=now())
            )
            ids = list(await session.scalars(select(Instance.id)))
        for instance_id in ids:
            await self.reconcile(instance_id, Request(Action.DELETE, "All of them are removed."))

    async def _follow_wishes(self) -> None:
        while True:
            seen = self._nudge.seen(Topic.WISHES)
            try:
                if self._database.trouble.reason is None:
                    await self._claim_new()
                    for instance_id in await self._asked():
                        self._begin(instance_id)
                    for instance_id in await self._due():
                        self._begin_in_background(instance_id)
            except Exception:
                if self._database.trouble.reason is None:
                    _log.exception("looking at the wishes failed; it is tried again")
            await self._nudge.wait(Topic.WISHES, seen)

    async def _claim_new(self) -> None:
        """An instance for each wish that has none yet: one of the warm pool, else a row for one to be made."""
        missing = (
            select(Wish, User.telegram_id)
            .join(User, User.id == Wish.user_id)
            .outerjoin(Instance, Instance.user_id == Wish.user_id)
            .where(Instance.id.is_(None), Wish.wanted == Wanted.AWAKE)
            .order_by(Wish.asked_at)
            .limit(CONCURRENCY * 4)
        )
        image = self._settings.image or self._host.image
        async with self._database.read() as session:
            wishes = (await session.execute(missing)).all()
        for wish, telegram_id in wishes:
            # Another provisioner may have been first: one instance a user, by the table's constraint.
            with contextlib.suppress(IntegrityError):
                async with self._database.write() as session:
                    present = await session.get(Wish, wish.user_id, with_for_update=True)
                    if present is None or present.wanted != Wanted.AWAKE:
                        continue  # they left, or were suspended, since the look
                    claimed = await pool.claim(session, wish.user_id, wish.plan, image)
                    if claimed is not None:
                        note(session, telegram_id, Stage.CLAIMED)
                        continue
                    session.add(
                        Instance(
                            id=new_instance_id(),
                            user_id=wish.user_id,
                            plan=wish.plan,
                            image=image,
                            created_at=now(),
                        )
                    )

    async def _asked(self) -> list[str]:
        """Instances that somebody waits for, but for those that ended again and again and get a pause."""
        pausing = and_(
            Instance.container == ContainerState.EXITED,
            Instance.resting_since.is_(None),
            Instance.repairs > 0,
            Instance.next_look_at > now(),
        )
        query = (
            select(Instance.id)
            .join(Wish, Wish.user_id == Instance.user_id)
            .where(
                Wish.generation > Instance.met_generation,
                or_(Wish.wanted != Wanted.AWAKE, not_(func.coalesce(pausing, false()))),
            )
            .order_by(Wish.asked_at)
        )
        async with self._database.read() as session:
            found = list(await session.scalars(query))
        at = asyncio.get_running_loop().time()
        return [instance_id for instance_id in found if self._not_before.get(instance_id, 0.0) <= at]

    async def _due(self) -> list[str]:
        """The next few that it is time to look at, those whose people wrote last first."""
        room = _BACKGROUND - len(self._background)
        if room <= 0:
            return []
        query = (
            select(Instance.id)
            .outerjoin(User, User.id == Instance.user_id)
            # The pool itself says when one of its members is made.
            .where(or_(Instance.user_id.is_not(None), Instance.warmed_at.is_not(None)))
            .where(Instance.next_look_at <= now(), Instance.id.not_in(list(self._working)))
            .order_by(User.last_message_at.desc().nulls_last())
            .limit(room)
        )
        async with self._database.read() as session:
            return list(await session.scalars(query))

    def _begin(self, instance_id: str, request: Request | None = None) -> bool:
        """Work on the instance beside everything else; False where that is under way already."""
        if instance_id in self._working:
            return False
        task = asyncio.create_task(self._work(instance_id, request), name=f"reconcile {instance_id}")
        self._working[instance_id] = task
        return True

    def _begin_in_background(self, instance_id: str, request: Request | None = None) -> bool:
        """As :meth:`_begin`, for one that nobody waits for."""
        begun = self._begin(instance_id, request)
        if begun:
            self._background.add(instance_id)
        return begun

    async def _work(self, instance_id: str, request: Request | None) -> None:
        try:
            await self.reconcile(instance_id, request)
            self._failures.pop(instance_id, None)
            self._not_before.pop(instance_id, None)
        except LeaseHeld:
            await self._look_again(instance_id, _RETRY_AFTER)
        except InstanceStumbled as stumbled:
            await self._look_again(instance_id, stumbled.pause)
        except InstanceBroken:
            pass  # recorded, where people look for it
        except Refused as refused:
            self._spared[instance_id] = asyncio.get_running_loop().time() + _SPARED_FOR
            _log.info("an instance was not put to sleep", instance=instance_id, reason=str(refused))
        except Exception as error:
            if request is not None:
                self._spared[instance_id] = asyncio.get_running_loop().time() + _SPARED_FOR
            count = self._failures[instance_id] = self._failures.get(instance_id, 0) + 1
            delay = min(_RETRY_AFTER * 2 ** (count - 1), _RETRY_AT_MOST)
            if self._database.trouble.reason is None:
                _log.warning(
                    "reconcile failed; it is tried again", instance=instance_id, after_seconds=delay, error=str(error)
                )
            await self._look_again(instance_id, delay, f"It is tried again in {delay:.0f} seconds: {error}")
        finally:
            self._working.pop(instance_id, None)
            self._background.discard(instance_id)
            self._nudge.ring(Topic.WISHES)

    async def _look_again(self, instance_id: str, delay: float, why: str | None = None) -> None:
        self._not_before[instance_id] = asyncio.get_running_loop().time() + delay
        # Where this cannot be written its wish is still not met, which is as good a reason to look again.
        with contextlib.suppress(SQLAlchemyError, OSError):
            async with self._database.write() as session:
                await session.execute(
                    update(Instance).where(Instance.id == instance_id).values(next_look_at=now() + delay)
                )
                if why is not None:
                    await decisions.note(session, instance_id, WAIT, why)

    async def _watch_deaths(self) -> None:
        """A gateway that ends is noticed by Docker's event, not by somebody's unanswered message."""
        async for instance_id in self.context.containers.deaths():
            if instance_id in self._working:
                continue  # we are stopping or starting it ourselves
            if await self._note_end(instance_id):
                _log.warning("a gateway ended", instance=instance_id)
                self._nudge.ring(Topic.WISHES)
                self._nudge.ring(Topic.INSTANCES)

    async def _note_end(self, instance_id: str) -> bool:
        """Write down that a gateway ended by itself, and when to look at it; False where it should not have run."""
        async with self._database.write() as session:
            instance = await session.get(Instance, instance_id, with_for_update=True)
            if instance is None or instance.failure is not None or instance.container != ContainerState.RUNNING:
                return False
            if is_live(instance.lease_owner, instance.lease_until):
                return False  # another process is stopping or starting it
            lasted = now() - instance.ready_at if instance.ready_at is not None else 0.0
            instance.repairs = 1 if lasted > SOUND_AFTER else instance.repairs + 1
            instance.container, instance.ready_at = ContainerState.EXITED, None
            pause = BACK_OFF[min(instance.repairs, len(BACK_OFF)) - 1]
            user = await session.get(User, instance.user_id) if instance.user_id is not None else None
            if lasted < _LONG and not await _is_attended(session, user):
                # One that ends again and again costs little.
                pause = max(pause, _UNATTENDED)
            instance.next_look_at = now() + pause
        return True

    async def _resync_regularly(self) -> None:
        while True:
            await self._resync()
            await asyncio.sleep(RESYNC_EVERY)

    async def _resync(self) -> None:
        """Compare every row with the world, and look at those that differ."""
        await close_dead(self._database)
        await clock.set_right(self._database)
        query = select(
            Instance.id,
            Instance.container,
            Instance.ready_at,
            Instance.resting_since,
            Instance.fenced_at,
            Instance.failure,
            Instance.next_look_at,
            Instance.repairs,
            Wish.wanted,
        ).outerjoin(Wish, Wish.user_id == Instance.user_id)
        async with self._database.read() as session:
            rows = (await session.execute(query)).all()
        states = await self.context.containers.states()
        for row in rows:
            if row.id in self._working:
                continue
            state = states.get(row.id, ContainerState.NONE)
            up = state is ContainerState.RUNNING
            if row.container == ContainerState.RUNNING and state is ContainerState.EXITED and row.failure is None:
                await self._note_end(row.id)
                continue
            changes: dict[str, object] = {}
            if state != row.container:
                changes["container"] = state
                if not up:
                    changes["ready_at"] = None
            rests = row.resting_since is not None or row.wanted == Wanted.STOPPED
            orderly = (not up) if rests else (up and row.ready_at is not None and row.fenced_at is None)
            pausing = state is ContainerState.EXITED and row.repairs > 0
            late = row.next_look_at is None or (not orderly and not pausing and row.next_look_at > now() + RESYNC_EVERY)
            if late and row.failure is None:
                changes["next_look_at"] = now()
            if changes:
                # Whoever works on it now knows better.
                as_seen = and_(
                    Instance.id == row.id,
                    Instance.lease_owner.is_(None),
                    Instance.container == row.container,
                    Instance.ready_at.is_not_distinct_from(row.ready_at),
                )
                async with self._database.write() as session:
                    await session.execute(update(Instance).where(as_seen).values(**changes))
        self._nudge.ring(Topic.WISHES)
        self._nudge.ring(Topic.INSTANCES)

    async def _relieve_regularly(self) -> None:
        """Put the longest idle to sleep while the machine is short of memory."""
        while True:
            short = must_free(read_room())
            if short:
                await self._put_to_sleep(short.reason)
            await asyncio.sleep(_RELIEVE_EVERY)

    async def _count_awake(self, besides: str) -> int:
        query = select(func.count()).where(Instance.container == ContainerState.RUNNING, Instance.id != besides)
        async with self._database.read() as session:
            return await session.scalar(query) or 0

    async def _free_memory(self, wanted: int) -> None:
        await self._put_to_sleep(f"{wanted // 2**20} MiB are needed to wake another one.")

    async def _put_to_sleep(self, reason: str) -> None:
        """Begin to put the instance to sleep that has been idle for the longest."""
        at = asyncio.get_running_loop().time()
        self._spared = {instance_id: until for instance_id, until in self._spared.items() if until > at}
        query = (
            select(Instance.id)
            .join(User, User.id == Instance.user_id)
            .where(
                Instance.container == ContainerState.RUNNING,
                Instance.ready_at < now() - SOUND_AFTER,
                Instance.fenced_at.is_(None),
                Instance.failure.is_(None),
                Instance.id.not_in([*self._working, *self._spared]),
            )
            .order_by(func.coalesce(User.last_message_at, 0.0))
            .limit(1)
        )
        async with self._database.read() as session:
            instance_id = await session.scalar(query)
        if instance_id is not None:
            self._begin(instance_id, Request(Action.SLEEP, f"The machine is short of memory. {reason}"))

    async def _note_wait(self, instance_id: str, reason: str) -> None:
        async with self._database.write() as session:
            await decisions.note(session, instance_id, WAIT, reason)

    async def _forever(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop again whenever it ends: the Docker daemon may be restarted under us, or be away for long."""
        pause = LOOK_AGAIN
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await loop()
                pause = LOOK_AGAIN
            except Exception as error:
                ran_well = asyncio.get_running_loop().time() - began > _PAUSE_AT_MOST
                pause = LOOK_AGAIN if ran_well else min(2 * pause, _PAUSE_AT_MOST)
                if self._database.trouble.reason is None:
                    _log.warning(
                        "a loop of the provisioner failed; it is started again", after_seconds=pause, error=str(error)
                    )
            await asyncio.sleep(pause)


async def _is_attended(session: AsyncSession, user: User | None) -> bool:
    """Whether somebody is in a conversation, or waits for it to begin: until then they had no last message."""
    if user is None:
        return False
    return (user.last_message_at or 0.0) >= now() - _LONG or await is_pending(session, user.telegram_id)
