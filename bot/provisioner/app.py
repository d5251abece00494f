"""The provisioner's life: startup, main loops, shutdown."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import httpx
import structlog
from sqlalchemy import and_, or_, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from bot.credentials import FrontKey, GatewayKey, load_key, new_instance_id
from bot.hostfacts import HostFacts
from bot.nudge import LOOK_AGAIN, Nudge, Topic
from bot.provisioner.containers import Containers
from bot.provisioner.context import ProvisionerContext
from bot.provisioner.lease import LeaseHeld, new_owner, release_dead
from bot.provisioner.operations import close_dead
from bot.provisioner.reconcile import InstanceBroken, Reconciler
from bot.provisioner.stacks import StackManager
from bot.settings import Settings
from bot.store import Database, now
from bot.store.tables import ContainerState, Instance, Wanted, Wish
from bot.toolchain import Toolchain
from infra.spec import InstanceSpec

_log = structlog.get_logger(__name__)

#: Instances that are worked on at the same time; the engine and a starting gateway each fill a core.
CONCURRENCY = 4
#: Seconds between looks at the whole world, for what no event told us.
RESYNC_EVERY = 60.0
#: Seconds after which a gateway that is up counts as sound, so that its next crash is repaired again.
SOUND_AFTER = 600.0
_RETRY_AFTER = 5.0
_RETRY_AT_MOST = 300.0


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
        self._failures: dict[str, int] = {}
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self.context: ProvisionerContext
        self.reconciler: Reconciler

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
            http=await self._exit.enter_async_context(httpx.AsyncClient(trust_env=False)),
        )
        self.reconciler = Reconciler(self.context, new_owner())

    async def start(self) -> None:
        """Connect, take over from a process that died, and begin the loops."""
        await self.connect()
        await release_dead(self._database)
        await close_dead(self._database)
        self._loops = [
            asyncio.create_task(self._follow_wishes(), name="wishes"),
            asyncio.create_task(self._forever(self._watch_deaths), name="deaths"),
            asyncio.create_task(self._forever(self._resync_regularly), name="resync"),
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

    async def reconcile(self, instance_id: str) -> None:
        """Bring one instance to its wish now; raises what went wrong."""
        await self.reconciler.reconcile(instance_id)

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
            await self.reconcile(instance_id)

    async def _follow_wishes(self) -> None:
        while True:
            seen = self._nudge.seen(Topic.WISHES)
            try:
                if self._database.trouble.reason is None:
                    await self._claim_new()
                    for instance_id in await self._due():
                        self._begin(instance_id)
            except Exception:
                if self._database.trouble.reason is None:
                    _log.exception("looking at the wishes failed; it is tried again")
            await self._nudge.wait(Topic.WISHES, seen)

    async def _claim_new(self) -> None:
        """A row for each wish that has no instance yet."""
        missing = (
            select(Wish)
            .outerjoin(Instance, Instance.user_id == Wish.user_id)
            .where(Instance.id.is_(None), Wish.wanted == Wanted.AWAKE)
            .order_by(Wish.asked_at)
            .limit(CONCURRENCY * 4)
        )
        async with self._database.read() as session:
            wishes = list(await session.scalars(missing))
        for wish in wishes:
            row = Instance(
                id=new_instance_id(),
                user_id=wish.user_id,
                plan=wish.plan,
                image=self._settings.image or self._host.image,
                created_at=now(),
            )
            # Another provisioner may have been first: one instance a user, by the table's constraint.
            with contextlib.suppress(IntegrityError):
                async with self._database.write() as session:
                    session.add(row)

    async def _due(self) -> list[str]:
        behind = and_(
            Wish.generation > Instance.met_generation,
            or_(Instance.next_look_at.is_(None), Instance.next_look_at <= now()),
        )
        query = (
            select(Instance.id)
            .join(Wish, Wish.user_id == Instance.user_id)
            .where(or_(behind, Instance.next_look_at <= now()))
            .order_by(Wish.asked_at)
        )
        async with self._database.read() as session:
            return list(await session.scalars(query))

    def _begin(self, instance_id: str) -> None:
        if instance_id not in self._working:
            task = asyncio.create_task(self._work(instance_id), name=f"reconcile {instance_id}")
            self._working[instance_id] = task

    async def _work(self, instance_id: str) -> None:
        try:
            async with self._slots:
                await self.reconcile(instance_id)
            self._failures.pop(instance_id, None)
        except LeaseHeld:
            await self._look_again(instance_id, _RETRY_AFTER)
        except InstanceBroken:
            pass  # recorded in the row, which is where people look
        except Exception as error:
            count = self._failures[instance_id] = self._failures.get(instance_id, 0) + 1
            delay = min(_RETRY_AFTER * 2 ** (count - 1), _RETRY_AT_MOST)
            if self._database.trouble.reason is None:
                _log.warning(
                    "reconcile failed; it is tried again", instance=instance_id, after_seconds=delay, error=str(error)
                )
            await self._look_again(instance_id, delay)
        finally:
            self._working.pop(instance_id, None)
            self._nudge.ring(Topic.WISHES)

    async def _look_again(self, instance_id: str, delay: float) -> None:
        # Where this cannot be written its wish is still not met, which is as good a reason to look again.
        with contextlib.suppress(SQLAlchemyError, OSError):
            async with self._database.write() as session:
                await session.execute(
                    update(Instance).where(Instance.id == instance_id).values(next_look_at=now() + delay)
                )

    async def _watch_deaths(self) -> None:
        """A gateway that ends is noticed by Docker's event, not by somebody's unanswered message."""
        async for instance_id in self.context.containers.deaths():
            if instance_id in self._working:
                continue  # we are stopping or starting it ourselves
            async with self._database.write() as session:
                ours = await session.scalar(
                    update(Instance)
                    .where(Instance.id == instance_id, Instance.failure.is_(None))
                    .values(
                        container=ContainerState.EXITED,
                        ready_at=None,
                        next_look_at=now(),
                        repairs=Instance.repairs + 1,
                    )
                    .returning(Instance.id)
                )
            if ours is not None:
                _log.warning("a gateway ended", instance=instance_id)
                self._nudge.ring(Topic.WISHES)
                self._nudge.ring(Topic.INSTANCES)

    async def _resync_regularly(self) -> None:
        while True:
            await self._resync()
            await asyncio.sleep(RESYNC_EVERY)

    async def _resync(self) -> None:
        """Compare every row with the world, and look at those that differ."""
        await close_dead(self._database)
        states = await self.context.containers.states()
        async with self._database.read() as session:
            query = select(Instance, Wish).join(Wish, Wish.user_id == Instance.user_id)
            rows = (await session.execute(query)).all()
        for instance, wish in rows:
            if instance.id in self._working:
                continue
            state = states.get(instance.id, ContainerState.NONE)
            changes: dict[str, object] = {}
            if state != instance.container:
                changes["container"] = state
                if state is not ContainerState.RUNNING:
                    changes["ready_at"] = None
            up = state is ContainerState.RUNNING and instance.ready_at is not None
            if wish.wanted is Wanted.AWAKE and not up and instance.failure is None:
                changes["next_look_at"] = now()
            if up and instance.repairs and now() - (instance.ready_at or 0.0) > SOUND_AFTER:
                changes["repairs"] = 0
            if changes:
                async with self._database.write() as session:
                    await session.execute(update(Instance).where(Instance.id == instance.id).values(**changes))
        self._nudge.ring(Topic.WISHES)
        self._nudge.ring(Topic.INSTANCES)

    async def _forever(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop again whenever it ends: the Docker daemon may be restarted under us."""
        while True:
            try:
                await loop()
            except Exception as error:
                if self._database.trouble.reason is None:
                    _log.warning("a loop of the provisioner failed; it is started again", error=str(error))
            await asyncio.sleep(LOOK_AGAIN)
