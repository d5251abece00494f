"""The scripts as a person runs them: real containers, real Pulumi, the real OpenClaw."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
#: Seconds; a cold start on a machine that does other things.
LONG = 600.0

Environment = dict[str, str]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A demo of the tests' own, which is removed at the end whatever happened."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("ZAKI_")}
    state = tmp_path_factory.mktemp("demo") / "state"
    environment = {**ours, "ZAKI_STATE": str(state), "ZAKI_TELEGRAM_TOKEN": "", "ZAKI_POOL": "0"}
    yield environment
    if state.exists():
        done = script("run", "--clean", "--yes", environment=environment)
        assert done.returncode == 0, done.stderr


def script(name: str, *words: str, environment: Environment) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts to its end, with no terminal."""
    return subprocess.run(
        [str(PROJECT / "scripts" / name), *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONG,
    )


def docker(*words: str) -> list[str]:
    """Lines that the Docker client prints."""
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout.split()


def zaki(*words: str, environment: Environment) -> Any:
    """What a command prints as JSON."""
    command = [str(PROJECT / ".venv" / "bin" / "zaki"), *words, "--json"]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@contextlib.contextmanager
def running_demo(environment: Environment, *words: str) -> Iterator[str]:
    """A demo in the background, ended with Ctrl-C; its page."""
    demo = subprocess.Popen(
        [PROJECT / "scripts" / "run", "--json", *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    try:
        lines = ""
        while line := demo.stdout.readline():
            lines += line
            if line == "}\n":
                break
        yield str(json.loads(lines)["page"])
    finally:
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(LONG) == 0
        demo.stdout.close()


def test_say_prints_the_reply_and_the_timeline_and_leaves_nothing_running(environment: Environment) -> None:
    done = script("run", "--say", "hello from the tests", "--json", environment=environment)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert "hello from the tests" in answer["reply"]
    stages = [step["stage"] for step in answer["timeline"]]
    assert [stage for stage in stages if stage in ("received", "ready", "delivered", "replied")] == [
        "received",
        "ready",
        "delivered",
        "replied",
    ]
    seconds = [step["seconds"] for step in answer["timeline"]]
    assert seconds == sorted(seconds)
    assert docker("ps", "--quiet", "--filter", f"name={answer['instance']}") == []
    (instance,) = zaki("instance", "ls", environment=environment)
    assert (instance["id"], instance["state"]) == (answer["instance"], "stopped")


def test_say_uses_the_demo_that_runs_and_ctrl_c_stops_its_instances(environment: Environment) -> None:
    with running_demo(environment) as page:
        done = script("run", "--say", "are you there?", environment=environment)
        assert done.returncode == 0, done.stderr
        assert page in done.stderr
        assert "are you there?" in done.stdout
        assert "first reply" in done.stdout
    ours = [instance["id"] for instance in zaki("instance", "ls", environment=environment)]
    assert len(ours) == 2
    assert not set(ours) & set(docker("ps", "--format", "{{.Names}}"))


def test_say_that_is_ended_early_stops_what_it_started(environment: Environment) -> None:
    saying = subprocess.Popen(
        [str(PROJECT / ".venv" / "bin" / "zaki"), "demo", "--say", "never mind"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert saying.stderr is not None
    for line in saying.stderr:
        if "gateway started" in line:
            saying.terminate()
    assert saying.wait(LONG) == 1
    saying.stderr.close()
    assert line == "Stopped before the reply came.\n"
    ours = [instance["id"] for instance in zaki("instance", "ls", environment=environment)]
    assert not set(ours) & set(docker("ps", "--format", "{{.Names}}"))


def test_an_instance_is_unchanged_by_hand_and_its_log_can_be_read(environment: Environment) -> None:
    instance = zaki("instance", "ls", environment=environment)[0]["id"]
    assert zaki("instance", "preview", instance, environment=environment)["changed"] is False
    shown = zaki("instance", "show", instance, "--env", environment=environment)
    preview = subprocess.run(
        [*shlex.split(shown["preview"]), "--expect-no-changes"],
        env={**environment, **shown["environment"]},
        capture_output=True,
        text=True,
    )
    assert preview.returncode == 0, preview.stdout + preview.stderr
    command = [PROJECT / ".venv" / "bin" / "zaki", "instance", "logs", instance, "--tail", "5"]
    log = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 0 < len(log.stdout.splitlines()) <= 5


def test_clean_removes_all_that_the_demo_made(environment: Environment) -> None:
    instances = [instance["id"] for instance in zaki("instance", "ls", environment=environment)]
    state = Path(environment["ZAKI_STATE"])
    network = json.loads((state / "host.json").read_text())["network"]
    assert instances
    refused = script("run", "--clean", environment=environment)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    done = script("run", "--clean", "--yes", environment=environment)
    assert done.returncode == 0, done.stderr
    assert not state.exists()
    assert not set(instances) & set(docker("ps", "--all", "--format", "{{.Names}}"))
    assert not set(instances) & set(docker("volume", "ls", "--format", "{{.Name}}"))
    assert network not in docker("network", "ls", "--format", "{{.Name}}")


def test_with_a_token_it_serves(environment: Environment, tmp_path: Path) -> None:
    real = {
        **environment,
        "ZAKI_TELEGRAM_TOKEN": "123456789:AAtests-only-not-a-real-token-000000",
        "ZAKI_STATE": str(tmp_path / "state"),
        "ZAKI_LISTEN": "nowhere",
    }
    done = script("run", environment=real)
    assert done.returncode == 2
    assert "ZAKI_LISTEN" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "state").exists()


def test_an_unknown_part_of_the_tests_is_wrong_usage(environment: Environment) -> None:
    done = script("test", "everything", environment=environment)
    assert done.returncode == 2
    assert "everything" in done.stderr
