"""A release: this checkout as one archive that a host can install."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from bot.cli.output import CliError
from bot.toolchain import cache_folder, read_pins

_PROJECT = Path(__file__).resolve().parents[2]
#: What the services of a host need besides the packages: the pins, and what builds the engine and the image.
_BESIDES = ("pins.env", "setup", "fetch", "swap", "engine", "image")

_KEPT = 5


def build_release(folder: Path, project: Path = _PROJECT) -> Path:
    """Make `zaki-VERSION.tar.gz` in the folder, where VERSION ends with a checksum: the same sources, the same file.

    It holds the wheel, the locked packages with their hashes as `requirements.txt`, and `scripts/`.

    Raises:
        CliError: There is no checkout, or uv does not do it.
    """
    if not (project / "uv.lock").is_file():
        raise CliError("A host is brought up from a checkout of Zaki, and this is an installed one; run it there.")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        made = Path(work)
        _uv(project, "build", "--wheel", "--quiet", "--out-dir", made)
        _uv(
            project,
            *("export", "--frozen", "--no-dev", "--no-emit-project", "--no-header", "--quiet"),
            *("--output-file", made / "requirements.txt"),
        )
        [wheel] = made.glob("*.whl")
        content = _archive({wheel.name: wheel, "requirements.txt": made / "requirements.txt", **_scripts(project)})
        version = f"{wheel.name.split('-')[1]}-{sha256(content).hexdigest()[:12]}"
        draft = made / "archive"
        draft.write_bytes(content)
        archive = folder / f"zaki-{version}.tar.gz"
        draft.replace(archive)
    # Another stack of the checkout may still name an older one.
    for other in sorted(folder.glob("zaki-*.tar.gz"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        other.unlink()
    return archive


def _scripts(project: Path) -> dict[str, Path]:
    return dict(_named(project, (path for name in _BESIDES for path in _files(project / "scripts" / name))))


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from (inner for inner in sorted(path.rglob("*")) if inner.is_file())


def _named(project: Path, paths: Iterator[Path]) -> Iterator[tuple[str, Path]]:
    for path in paths:
        yield str(path.relative_to(project)), path


def _archive(files: dict[str, Path]) -> bytes:
    """A tar.gz that says nothing of when and where it was made."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, path in sorted(files.items()):
            content = path.read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


def _uv(project: Path, *words: str | Path) -> None:
    own = cache_folder() / "uv" / read_pins()["UV_VERSION"] / "bin" / "uv"
    program = own if own.exists() else shutil.which("uv")
    if program is None:
        raise CliError("uv is missing; run scripts/setup python.")
    done = subprocess.run([program, *words], cwd=project, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise CliError(f"uv {words[0]} failed ({reason}); the release was not made.")
