"""Where the pinned tools live: the Pulumi engine, its plugins, and OpenClaw.

``scripts/setup`` puts them there; ``scripts/pins.env`` says which versions. This module is the only
place in Python that knows either.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PinsError", "Toolchain", "cache_folder", "pins_file", "read_pins"]


class PinsError(RuntimeError):
    """The file of pinned versions is missing, or says something that cannot be read."""


def pins_file() -> Path:
    """Return the path of ``scripts/pins.env`` in the project that holds this package.

    Raises:
        PinsError: No such file: the package was installed away from its checkout.
    """
    path = Path(__file__).resolve().parent.parent / "scripts" / "pins.env"
    if not path.is_file():
        raise PinsError(f"{path} is missing: run Zaki from a checkout that holds scripts/pins.env.")
    return path


def read_pins(path: Path | None = None) -> dict[str, str]:
    """Read ``KEY=VALUE`` lines; blank lines and lines that start with ``#`` are skipped.

    Args:
        path: The file to read; the project's own when left out.

    Raises:
        PinsError: The file is missing, a line has no ``=``, or a key stands twice.
    """
    path = path or pins_file()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise PinsError(f"{path} cannot be read: {error.strerror}.") from error
    pins: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise PinsError(f"{path}, line {number}: write KEY=VALUE instead of {text!r}.")
        if key in pins:
            raise PinsError(f"{path}, line {number}: {key} stands there twice; keep one.")
        pins[key] = value
    return pins


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder in which ``scripts/setup`` keeps what it brings.

    Args:
        environment: Where to look for ``XDG_CACHE_HOME`` and ``HOME``; the process's own when left out.
    """
    environment = os.environ if environment is None else environment
    if base := environment.get("XDG_CACHE_HOME"):
        return Path(base) / "zaki"
    home = environment.get("HOME")
    return (Path(home) if home else Path.home()) / ".cache" / "zaki"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The pinned tools of one checkout, and where they are (or will be after ``scripts/setup``)."""

    #: Everything that ``scripts/setup`` brings is below this folder.
    cache: Path
    #: The folder with ``pulumi``, ``pulumi-language-python`` and ``pulumi-language-python-exec``.
    pulumi_bin: Path
    #: ``PULUMI_HOME``: its ``plugins`` folder holds the two provider plugins.
    pulumi_home: Path
    engine_version: str
    docker_plugin_version: str
    command_plugin_version: str
    #: The tag under which the local Docker daemon knows the image of an instance.
    image_tag: str
    openclaw_version: str
    #: The folder with the Node.js that OpenClaw runs on.
    node_bin: Path
    #: OpenClaw's package on this host (``openclaw.mjs``, ``dist/``), the same tree as the image's ``/app``.
    openclaw_app: Path

    @classmethod
    def from_pins(cls, pins: Mapping[str, str] | None = None, cache: Path | None = None) -> "Toolchain":
        """Build the toolchain of this checkout.

        Args:
            pins: Pinned versions; read from ``scripts/pins.env`` when left out.
            cache: The cache folder; :func:`cache_folder` when left out.

        Raises:
            PinsError: A pin is missing, or the file cannot be read.
        """
        pins = read_pins() if pins is None else pins
        cache = cache or cache_folder()
        try:
            engine = cache / "pulumi" / pins["PULUMI_VERSION"]
            openclaw = cache / "openclaw" / pins["OPENCLAW_VERSION"]
            return cls(
                cache=cache,
                pulumi_bin=engine / "bin",
                pulumi_home=engine / "home",
                engine_version=pins["PULUMI_VERSION"],
                docker_plugin_version=pins["DOCKER_PLUGIN_VERSION"],
                command_plugin_version=pins["COMMAND_PLUGIN_VERSION"],
                image_tag=pins["IMAGE_TAG"],
                openclaw_version=pins["OPENCLAW_VERSION"],
                node_bin=openclaw / "node" / "bin",
                openclaw_app=openclaw / "app",
            )
        except KeyError as error:
            raise PinsError(f"scripts/pins.env has no {error.args[0]}: add it.") from error

    def plugin(self, name: str, version: str) -> Path:
        """Return where the engine looks for a resource plugin's program, for example ``docker``, ``5.2.0``."""
        return self.pulumi_home / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}"
