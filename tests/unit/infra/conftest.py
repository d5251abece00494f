"""Runs programs against Pulumi's mocks: nothing is created, every declaration is recorded."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, reset_options, set_all_config, set_mocks
from pulumi.runtime.stack import run_pulumi_func

IMAGE = "sha256:" + "a" * 64

Declare = Callable[[str, Callable[[], None], Mapping[str, str]], list[MockResourceArgs]]


class _Recorder(Mocks):
    def __init__(self) -> None:
        self.declared: list[MockResourceArgs] = []

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        assert args.token == "docker:index/getRemoteImage:getRemoteImage"
        return {"id": IMAGE, "name": args.args["name"], "repoDigest": ""}, []

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.declared.append(args)
        return f"id-{args.name}", dict(args.inputs)


def _declare(stack: str, program: Callable[[], None], config: Mapping[str, str]) -> list[MockResourceArgs]:
    recorder = _Recorder()

    async def run() -> None:
        # The mocks leave some of Pulumi's own settings as the last program left them.
        reset_options(project="zaki", stack=stack)
        set_mocks(recorder, project="zaki", stack=stack)
        set_all_config(dict(config))
        await run_pulumi_func(program)

    # Pulumi keeps what it is set to in context variables: each program in a context of its own.
    contextvars.Context().run(asyncio.run, run())
    return recorder.declared


@pytest.fixture
def declare() -> Declare:
    """Call it with a stack's name, a program and its configuration to get what was declared, in order."""
    return _declare
