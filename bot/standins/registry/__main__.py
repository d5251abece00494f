"""`python -m bot.standins.registry --port N` serves the stand-in registry on the loopback interface."""

from __future__ import annotations

import argparse

import uvicorn

from bot.standins.registry import Registry, registry_app, samples


def main() -> None:
    """Serve until interrupted."""
    about = "Serve a stand-in for ClawHub; set ZAKI_SKILLS_URL to its address."
    parser = argparse.ArgumentParser(prog="python -m bot.standins.registry", description=about)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8092)
    options = parser.parse_args()
    uvicorn.run(registry_app(Registry(samples())), host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
