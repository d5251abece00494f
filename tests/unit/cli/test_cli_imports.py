"""Commands are quick and roles stay apart, because what they need is imported when they run."""

from __future__ import annotations

import subprocess
import sys

import pytest

FIND = "import {module}, sys; print(','.join(name for name in {unwanted!r} if name in sys.modules))"


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("bot.cli", ["pulumi", "sqlalchemy", "fastapi", "aiodocker", "rich.table", "pydantic"]),
        ("bot.serve, bot.front.app", ["pulumi", "pulumi_docker", "aiodocker"]),
        ("bot.serve, bot.provisioner.app", ["bot.front.app", "fastapi"]),
    ],
)
def test_nothing_is_imported_that_is_not_needed(module: str, unwanted: list[str]) -> None:
    code = FIND.format(module=module, unwanted=unwanted)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
