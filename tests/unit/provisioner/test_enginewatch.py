"""What is kept of the engine's events, and how its words are cleaned."""

from __future__ import annotations

from typing import Any

import pytest
from pulumi.automation.events import EngineEvent

from bot.provisioner.enginewatch import EngineWatch, error_lines


def _event(**fields: Any) -> EngineEvent:
    return EngineEvent.from_json({"sequence": 1, "timestamp": 0, **fields})


def _diagnostic(severity: str, message: str) -> EngineEvent:
    return _event(diagnosticEvent={"severity": severity, "message": message, "color": "raw"})


def _step(op: str, kind: str) -> EngineEvent:
    state = {"type": kind, "urn": "urn", "id": "", "parent": "", "provider": "", "inputs": {}, "outputs": {}}
    return _event(
        resourcePreEvent={
            "metadata": {"op": op, "urn": "urn", "type": kind, "provider": "", "new": state, "old": state}
        }
    )


def test_errors_are_kept_without_colours() -> None:
    watch = EngineWatch(lambda _text: None)
    watch(_diagnostic("warning", "careful"))
    watch(_diagnostic("error", "<{%fg 1%}>name is in use<{%reset%}>\n\n  by another\n"))
    watch(_diagnostic("error", "update failed"))
    assert watch.errors == ("name is in use", "by another", "update failed")


@pytest.mark.parametrize(
    "secret",
    ["123456789:AAH-abcdefghijklmnopqrstuvwxyz_0123", "sk-zaki-0123456789-abcdefghijk", "user:pass1word"],
)
def test_secrets_are_not_kept(secret: str) -> None:
    watch = EngineWatch(lambda _text: None)
    watch(_diagnostic("error", f"calling http://{secret}@host/x failed"))
    assert watch.errors == ("calling http://[secret]@host/x failed",)


def test_lines_of_errors_are_found_in_a_commands_output() -> None:
    assert error_lines("\n code: 255\n stdout: x\n stderr: error: no such plugin\nwarning: x\nerror: y") == (
        "no such plugin",
        "y",
    )


def test_people_are_told_what_is_done_to_things_they_know() -> None:
    told: list[str] = []
    watch = EngineWatch(told.append)
    watch(_step("create", "docker:index/volume:Volume"))
    watch(_step("same", "docker:index/volume:Volume"))
    watch(_step("create", "pulumi:pulumi:Stack"))
    watch(_step("create-replacement", "docker:index/container:Container"))
    watch(_step("delete", "docker:index/container:Container"))
    assert told == ["creating the volume", "replacing the container", "removing the container"]


def test_changes_are_counted_by_plain_names() -> None:
    watch = EngineWatch(lambda _text: None)
    watch(
        _event(
            summaryEvent={
                "maybeCorrupt": False,
                "durationSeconds": 1,
                "resourceChanges": {"same": 3, "update": 1},
                "PolicyPacks": {},
            }
        )
    )
    assert watch.changes == {"same": 3, "update": 1}
