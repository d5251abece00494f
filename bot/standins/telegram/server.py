"""Runs the simulator on a socket."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI

#: Seconds that an idle connection stays open: longer than clients here keep one, so that none is used while it ends.
_KEEP_ALIVE = 75
#: Seconds that connections get to end once the simulator has closed its streams.
_GRACE = 5


class SimulatorServer(uvicorn.Server):
    """A uvicorn server that ends long polls and event streams before it waits for connections to end."""

    def __init__(self, app: FastAPI, host: str, port: int, *, handle_signals: bool = True) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE,
        )
        config.timeout_graceful_shutdown = _GRACE
        super().__init__(config)
        self._app = app
        self._handle_signals = handle_signals

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if not self._handle_signals:
            yield
            return
        with super().capture_signals():
            yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._app.state.simulator.close()
        await super().shutdown(sockets)


async def serve(app: FastAPI, host: str = "127.0.0.1", port: int = 8081) -> None:
    """Serve until SIGINT or SIGTERM. Raises OSError if the address is taken."""
    with _listening(host, port) as listener:
        await SimulatorServer(app, host, port).serve(sockets=[listener])


@contextlib.asynccontextmanager
async def running(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve in the background while the block runs; the base URL, such as `http://127.0.0.1:40123`.

    Port 0 takes a free one. Raises OSError if the address is taken.
    """
    with _listening(host, port) as listener:
        server = SimulatorServer(app, host, port, handle_signals=False)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    # Connections wait in the socket's backlog, so callers may connect before the server accepts.
    with socket.create_server((host, port), backlog=512) as listener:
        yield listener
