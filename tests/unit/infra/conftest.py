"""Runs programs against Pulumi's mocks: nothing is created, every declaration is recorded."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pulumi
import pytest
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, reset_options, set_all_config, set_mocks
from pulumi.runtime.stack import run_pulumi_func

IMAGE = "sha256:" + "a" * 64


class Recorder(Mocks):
    """What a program declared, in order, and the transforms that it registered with the engine."""

    def __init__(self) -> None:
        self.declared: list[MockResourceArgs] = []
        self.transforms: list[pulumi.ResourceTransform] = []

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        assert args.token == "docker:index/getRemoteImage:getRemoteImage"
        return {"id": IMAGE, "name": args.args["name"], "repoDigest": ""}, []

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.declared.append(args)
        return f"id-{args.name}", dict(args.inputs)

    def register_transform(self, transform: pulumi.ResourceTransform) -> None:
        self.transforms.append(transform)

    def inputs(self, kind: str) -> dict[str, Any]:
        """The inputs of the one resource of a kind, for example `Container`."""
        [found] = [args for args in self.declared if args.typ.endswith(f":{kind}")]
        return found.inputs


class Declare:
    """Runs a program against the mocks."""

    def __call__(self, stack: str, program: Callable[[], None], config: Mapping[str, str]) -> Recorder:
        recorder = Recorder()

        async def run() -> None:
            # The mocks leave some of Pulumi's own settings as the last program left them.
            reset_options(project="zaki", stack=stack)
            set_mocks(recorder, project="zaki", stack=stack)
            set_all_config(dict(config))
            await run_pulumi_func(program)

        # Pulumi keeps what it is set to in context variables: each program in a context of its own.
        contextvars.Context().run(asyncio.run, run())
        return recorder


@pytest.fixture(scope="module")
def declare() -> Iterator[Declare]:
    """Call it with a stack's name, a program and its configuration; the module must ignore ResourceWarning."""
    yield Declare()
    # The mocks open an event loop in each thread and close none: here, and not in somebody else's test.
    gc.collect()
