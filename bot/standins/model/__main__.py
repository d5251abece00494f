"""`python -m bot.standins.model --port N` serves the echo model on the loopback interface."""

from __future__ import annotations

import argparse

import uvicorn

from bot.standins.model import echo_app


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m bot.standins.model", description="Serve the echo model.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    options = parser.parse_args()
    uvicorn.run(echo_app(), host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
