"""Forwards a loopback port of this machine to an instance's gateway, which publishes none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bot.cli.output import CliError
from bot.endpoints import GATEWAY_PORT
from bot.provisioner.containers import Containers
from bot.store.tables import ContainerState

#: Ports that are taken in turn; whichever nobody listens on.
PORTS = range(18800, 18900)
_CHUNK = 64 * 1024
#: Seconds between looks whether the instance still runs.
_LOOK_EVERY = 2.0


@asynccontextmanager
async def forwarding(address: str, port: int | None = None, ports: range = PORTS) -> AsyncIterator[int]:
    """Forward a port of 127.0.0.1 to the gateway at `address` during the block, and yield which one.

    `port`: that one; None: the first of `ports` that is free. Raises :class:`CliError` where there is none.
    """
    connections: set[asyncio.Task[None]] = set()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - the server runs it in one
        connections.add(task)
        try:
            await _join(reader, writer, address)
        finally:
            connections.discard(task)

    for candidate in ports if port is None else (port,):
        try:
            server = await asyncio.start_server(forward, "127.0.0.1", candidate)
            break
        except OSError:
            continue
    else:
        which = f"port {port} is not" if port is not None else f"of the ports {ports[0]} to {ports[-1]} none is"
        raise CliError(f"On 127.0.0.1 {which} free; end what listens there, or give another with --port.")
    try:
        yield candidate
    finally:
        server.close()
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def check_awake(containers: Containers, instance_id: str) -> None:
    """Raise :class:`CliError` unless the instance runs: a frozen one would take connections and never answer."""
    observed = await containers.observe(instance_id)
    if observed is None or observed.state is not ContainerState.RUNNING:
        raise CliError(f"{instance_id} does not run; `zaki instance wake {instance_id}` wakes it.")


async def until_it_rests(containers: Containers, instance_id: str, stop: asyncio.Event) -> None:
    """Return once `stop` is set; raises as :func:`check_awake` once the instance does not run any more."""
    while not stop.is_set():
        await check_awake(containers, instance_id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY):
                await stop.wait()


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
    """Pass everything on in both directions until both sides have ended, or one was cut off."""
    async with _closing(writer):
        try:
            inner_reader, inner_writer = await asyncio.open_connection(address, GATEWAY_PORT)
            async with _closing(inner_writer), asyncio.TaskGroup() as both:
                both.create_task(_pass(reader, inner_writer))
                both.create_task(_pass(inner_reader, writer))
        except* OSError:
            # Whichever side went away: there is nobody to tell.
            pass


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
    writer.write_eof()


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
