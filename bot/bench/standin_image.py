"""An image in which the stand-in gateway takes OpenClaw's place: the same command line's work in a tenth of the time.

It is the host's own image with a few Python packages and another command, so everything else of an instance is as it is
with the real gateway: its user, its folders, its read-only root.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import py_compile
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

#: Where the packages are in the image, and what is there.
_HOME = "opt/standin"
_LIBRARIES = (
    *("anyio", "certifi", "click", "h11", "httpcore", "httpx", "idna", "sniffio", "starlette", "structlog"),
    *("typing_extensions", "uvicorn"),
)
_OURS = ("bot/__init__.py", "bot/credentials.py", "bot/standins/__init__.py", "bot/standins/serving.py")
_STANDIN = "bot/standins/instance"
_PROJECT = Path(__file__).resolve().parents[2]
_LABEL = "zaki.standin"
_PYTHON = "python3.11"


class ImageFailed(Exception):
    """The image could not be made; the message says what to do."""


def standin_image(base: str) -> str:
    """The image's id, `sha256:…`; it is built where there is none of this content. `base` is OpenClaw's image."""
    if sys.version_info[:2] != (3, 11):
        raise ImageFailed("The stand-in's image needs Python 3.11 here, as the image of instances has it.")
    files = dict(_files())
    digest = hashlib.sha256(_docker("image", "inspect", "--format", "{{.Id}}", base).encode())
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    tag = f"zaki/standin:{digest.hexdigest()[:16]}"
    found = _docker("image", "ls", "--quiet", "--no-trunc", tag)
    if found:
        return found
    made = _build(base, tag, files)
    _remove_older(tag)
    return made


def _build(base: str, tag: str, files: dict[str, bytes]) -> str:
    container = _docker("create", base)
    try:
        _docker("cp", "-", f"{container}:/", given=_archive(files))
        changes = (
            f'CMD ["/usr/bin/{_PYTHON}", "-s", "-m", "bot.standins.instance"]',
            f"ENV PYTHONPATH=/{_HOME} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1",
            f"LABEL {_LABEL}={tag}",
        )
        words = [word for change in changes for word in ("--change", change)]
        return _docker("commit", *words, container, tag)
    finally:
        _docker("rm", container)


def _remove_older(tag: str) -> None:
    """Those of earlier contents; one that a container still has stays."""
    listed = _docker("image", "ls", "--filter", f"label={_LABEL}", "--format", "{{.Repository}}:{{.Tag}}")
    for other in set(listed.split()) - {tag}:
        subprocess.run(["docker", "rmi", other], capture_output=True, check=False)


def _files() -> Iterator[tuple[str, bytes]]:
    """What goes into the image, by path below its root."""
    for name in _LIBRARIES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ImageFailed(f"Python's {name} is not installed; run `scripts/setup`.")
        origin = Path(spec.origin)
        yield from _of(origin.parent if spec.submodule_search_locations else origin, origin.parent, name)
    for name in _OURS:
        yield f"{_HOME}/{name}", (_PROJECT / name).read_bytes()
    for path in sorted((_PROJECT / _STANDIN).glob("*.py")):
        yield f"{_HOME}/{_STANDIN}/{path.name}", path.read_bytes()


def _of(path: Path, folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """A module's file, or a package's without what only fits this machine or was compiled here."""
    if path.is_file():
        yield f"{_HOME}/{path.name}", path.read_bytes()
        return
    for file in sorted(path.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts and file.suffix not in (".pyc", ".so"):
            yield f"{_HOME}/{name}/{file.relative_to(folder)}", file.read_bytes()


def _archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            _add(tar, name, content)
            if name.endswith(".py"):
                # The root is read-only: what is not compiled now would be compiled at every start.
                path = Path(name)
                _add(tar, str(path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc"), _compiled(name, content))
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))


def _compiled(name: str, content: bytes) -> bytes:
    """Byte code that Python takes without a look at the source's time, which Docker may round."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.py"), Path(folder, "source.pyc")
        source.write_bytes(content)
        py_compile.compile(
            str(source), str(target), f"/{name}", doraise=True, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
        )
        return target.read_bytes()


def _docker(*words: str, given: bytes | None = None) -> str:
    done = subprocess.run(["docker", *words], input=given, capture_output=True, check=False)
    if done.returncode != 0:
        raise ImageFailed(f"`docker {words[0]}` failed: {done.stderr.decode(errors='replace').strip()}.")
    return done.stdout.decode().strip()
