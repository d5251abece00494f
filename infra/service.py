"""Zaki itself on a host: its release, its two services, and their settings and secrets."""

from __future__ import annotations

import io
import re
import shlex
import tarfile
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address
from pathlib import Path
from types import MappingProxyType

import pulumi

from infra.configuration import PROJECT, Configuration, SpecError, Values
from infra.spec import HOST_FILE, INSTANCE_LABEL, VOLUMES, HostSpec
from infra.steps import HostFile, Steps
from infra.units import (
    CREDENTIALS,
    FRONT,
    PROVISIONER,
    ROOT,
    SECRETS,
    SETTINGS,
    SOCKETS,
    STATE,
    TIMERS,
    as_properties,
    render_settings,
    render_units,
)

_INSTALL = (Path(__file__).parent / "install.sh").read_text()
_CHANGE_OVER = (Path(__file__).parent / "release.sh").read_text()
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+-]{0,63}")
_LISTEN = re.compile(r"(?:127\.0\.0\.1|\[::1\]):\d{1,5}")
#: Where a release says which versions it works with, the image's name among them.
_PINS = "scripts/pins.env"
_IMAGE = re.compile(rb"^IMAGE_TAG=(\S+)$", re.MULTILINE)
#: Ends the services, and what instances run. Docker stops none that is frozen.
_STOP = f"""\
systemctl stop {" ".join([*TIMERS, FRONT, PROVISIONER, *SOCKETS])} || true
for container in $(docker ps --quiet --filter label={INSTANCE_LABEL}); do
  docker unpause "$container" >/dev/null 2>&1 || true
  docker stop --time 20 "$container" >/dev/null
done
"""
#: Takes every release away, and what still runs of one whose services never became ready: this is undone before those.
UNINSTALL = f"{_STOP}rm -rf {ROOT} /var/cache/zaki\n"
#: Where the archive of a release is put.
ARCHIVE = f"{ROOT}/release.tar.gz.b64"
_READY_WITHIN_S = range(10, 1801)

#: Each secret is encrypted with the host's own key, so that a copy of the disk's files alone does not give it away. One
#: that is as it was stays, or its services would restart.
_SEAL = """\
make_folder {folder}
chmod 0700 {folder}
systemd-creds setup >/dev/null 2>&1 || true
python3 -c '
import json, pathlib, subprocess, sys
folder = pathlib.Path("{folder}")
given = json.load(sys.stdin)
for name, value in given.items():
    file = folder / name
    if file.exists():
        found = subprocess.run(["systemd-creds", "decrypt", f"--name={{name}}", file, "-"], capture_output=True)
        if found.returncode == 0 and found.stdout == value.encode():
            continue
    draft = folder / f".{{name}}"
    subprocess.run(["systemd-creds", "encrypt", f"--name={{name}}", "-", draft], input=value.encode(), check=True)
    draft.replace(file)
for file in folder.iterdir():
    if file.name not in given:
        file.unlink()
'
"""


@dataclass(frozen=True, slots=True)
class Release:
    """A wheel of Zaki with the packages that it was locked with, as one archive (see `bot/cli/releasing.py`)."""

    version: str
    #: A tar.gz with `*.whl`, `requirements.txt` (with hashes) and `scripts/`.
    content: bytes

    def __post_init__(self) -> None:
        if not _VERSION.fullmatch(self.version):
            raise SpecError(f"release is {self.version!r}; give a version in letters, digits, dots, + and hyphens.")

    @classmethod
    def read(cls, path: Path) -> Release:
        """The archive `zaki-VERSION.tar.gz`; what it is called ends with a checksum of what it holds.

        Raises:
            SpecError: It cannot be read, or is not what it is called.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise SpecError(f"zaki:release is {path}, which cannot be read ({error.strerror}).") from None
        version = path.name.removeprefix("zaki-").removesuffix(".tar.gz")
        if not version.endswith(f"-{sha256(content).hexdigest()[:12]}"):
            raise SpecError(f"{path} is not what its name says; make it again with `zaki host up`.")
        return cls(version, content)

    @classmethod
    def from_config(cls, config: Configuration) -> Release | None:
        """What `zaki:release` names; None where it is unset. Raises as :meth:`read`."""
        path = config.get("release")
        return cls.read(Path(path).expanduser()) if path is not None else None

    @property
    def image(self) -> str:
        """The reference of the image that it brings for instances.

        Raises:
            SpecError: It names none.
        """
        try:
            with tarfile.open(fileobj=io.BytesIO(self.content)) as archive:
                file = archive.extractfile(_PINS)
                found = _IMAGE.search(file.read()) if file is not None else None
        except (tarfile.TarError, KeyError, OSError):
            found = None
        if found is None:
            raise SpecError(f"The release {self.version} names no image; make it again with `zaki host up`.")
        return found[1].decode()


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """Zaki's services on one host."""

    release: Release
    #: The host's address on the instances' bridge.
    gateway: IPv4Address
    #: Settings without secrets, by their names: `ZAKI_MODEL`.
    settings: Mapping[str, str] = field(default_factory=dict)
    #: Names of the secrets that are given, of `infra.units.SECRETS`.
    secrets: frozenset[str] = frozenset({"telegram_token"})
    #: The public side, behind the TLS proxy.
    listen: str = "127.0.0.1:8080"
    #: What instances may reach at the gateway's address.
    bridge_port: int = 8081
    #: Seconds that a new version gets to become ready, before the one before it serves again.
    ready_within_s: int = 120
    #: Whether messages, keys, archives and what instances have outlive the stack.
    keep_data: bool = True
    #: Where the disks of instances are.
    volumes: str = VOLUMES
    #: Where the services read about the host.
    host_file: str = HOST_FILE

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))
        if not _LISTEN.fullmatch(self.listen):
            raise SpecError(f"listen is {self.listen!r}; give a port of the loopback, for example 127.0.0.1:8080.")
        if unknown := self.secrets - SECRETS.keys():
            raise SpecError(f"{min(unknown)} is no secret of Zaki; there are {', '.join(SECRETS)}.")
        if "telegram_token" not in self.secrets:
            raise SpecError(
                "zaki:telegram_token is unset; set it to your bot's token with "
                "`pulumi config set --secret zaki:telegram_token`."
            )
        if self.ready_within_s not in _READY_WITHIN_S:
            raise SpecError(
                f"ready_within_s is {self.ready_within_s}; give seconds from {_READY_WITHIN_S.start} "
                f"to {_READY_WITHIN_S.stop - 1}."
            )
        try:
            render_settings(self.settings)
        except ValueError as error:
            raise SpecError(str(error)) from None

    @property
    def endpoints(self) -> tuple[str, str]:
        """Where it listens, `address:port` each."""
        return self.listen, f"{self.gateway}:{self.bridge_port}"

    @classmethod
    def from_config(
        cls,
        config: Configuration,
        host: HostSpec,
        release: Release | None,
        given: frozenset[str],
        told: Mapping[str, str],
    ) -> ServiceSpec | None:
        """Read what serves on a host; None where no release is named, and the host only holds instances.

        Args:
            config: Where everything but secrets is read from.
            host: The host.
            release: The release that is named.
            given: Names of the secrets that are set.
            told: Settings that come of how the host is reached; those of the configuration go before them.

        Raises:
            SpecError: A value is missing or cannot be used.
        """
        values = Values(config)
        if release is None:
            if "telegram_token" in given:
                raise SpecError(
                    f"{PROJECT}:telegram_token is set and {PROJECT}:release is not; run `zaki host up --stack`, or set "
                    "it to the archive that `zaki host release` makes."
                )
            return None
        return cls(
            release=release,
            gateway=host.gateway,
            settings={**told, **values.mapping("settings")},
            secrets=given,
            keep_data=values.boolean("keep_data", default=True),
            ready_within_s=values.integer("ready_within_s", 120),
            volumes=host.volumes or VOLUMES,
            host_file=host.host_file,
        )


class Service(pulumi.ComponentResource):
    """The services of one host; `ready` is there once they serve."""

    ready: pulumi.Resource

    def __init__(
        self,
        name: str,
        spec: ServiceSpec,
        steps: Steps,
        secrets: Mapping[str, pulumi.Input[str]],
        facts: pulumi.Input[str],
        *,
        depends_on: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Declare them.

        Args:
            name: Of the component.
            spec: What they are.
            steps: The machine.
            secrets: The values of `spec.secrets`.
            facts: What the services read about the host.
            depends_on: The release, Docker, the bridge and the host's facts.
            opts: Of the component.
        """
        super().__init__("zaki:index:Service", name, None, opts)
        given = pulumi.Output.json_dumps({f"zaki_{key}": secrets[key] for key in sorted(spec.secrets)})
        sealed = steps.run(
            "secrets",
            render_secrets(),
            undo=f"rm -rf {CREDENTIALS}",
            secret=given,
            parent=self,
            depends_on=depends_on,
        )
        self.ready = steps.run(
            "service",
            render_change_over(spec),
            undo=render_undo(spec),
            check=render_check(spec),
            files={path: HostFile(text, mode) for path, (text, mode) in render_files(spec).items()},
            # Read at a start alone: with others the step is another one too, and starts the services anew.
            secret=pulumi.Output.all(given, facts).apply(lambda read: sha256("\0".join(read).encode()).hexdigest()),
            parent=self,
            depends_on=[sealed],
        )
        self.register_outputs({})


class Installed(pulumi.ComponentResource):
    """A release on a host, with the tools that it works with; nothing of it runs yet."""

    ready: pulumi.Resource

    def __init__(
        self,
        name: str,
        release: Release,
        image: str,
        steps: Steps,
        *,
        depends_on: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Declare it.

        Args:
            name: Of the component.
            release: What is installed.
            image: What instances run; the release brings its own, under the name that it has for it.
            steps: The machine.
            depends_on: Docker, and what has to be there besides.
            opts: Of the component.
        """
        super().__init__("zaki:index:Installed", name, None, opts)
        installed = steps.run(
            "release",
            render_install(release),
            undo=UNINSTALL,
            files={ARCHIVE: HostFile(b64encode(release.content).decode())},
            parent=self,
            depends_on=depends_on,
        )
        self.ready = steps.run(
            "tools",
            render_tools(release, image),
            parent=self,
            depends_on=[installed],
        )
        self.register_outputs({})


def render_secrets() -> str:
    """The step that seals the secrets, which come on standard input as a JSON object by the names of their files."""
    return _SEAL.format(folder=CREDENTIALS)


def render_files(spec: ServiceSpec) -> dict[str, tuple[str, int]]:
    """Content and mode of each file of the services, by its absolute path."""
    texts = render_units(spec.listen, spec.gateway, spec.bridge_port, spec.secrets, spec.ready_within_s)
    files = {path: (text, 0o755 if "/bin/" in path else 0o644) for path, text in texts.items()}
    files[SETTINGS] = (render_settings(spec.settings), 0o644)
    return files


def render_install(release: Release) -> str:
    """The step that installs a release, with its file already there."""
    values = {"version": release.version, "archive": ARCHIVE}
    return _assigned(values) + "apt_install python3-venv\n" + _INSTALL


def render_tools(release: Release, image: str) -> str:
    """The step that brings what the release works with: the engine, restic, and the image where it is the release's."""
    return f"""\
apt_install ca-certificates curl debootstrap e2fsprogs restic
XDG_CACHE_HOME=/var/cache HOME=/root {ROOT}/releases/{release.version}/scripts/setup tools {shlex.quote(image)} ||
  fail "What Zaki works with could not be brought to this host: see the lines above, and /var/cache/zaki/log there."
"""


def render_change_over(spec: ServiceSpec) -> str:
    """The step that installs the release, starts it, and goes back where it does not become ready."""
    values = {
        "version": spec.release.version,
        "ready_within": str(spec.ready_within_s),
        "public": spec.listen,
        "credentials": as_properties(spec.secrets).strip(),
        "facts": spec.host_file,
    }
    return _assigned(values) + _CHANGE_OVER


def render_check(spec: ServiceSpec) -> str:
    """Says which of the services is not as the step left it."""
    return f"""\
for unit in {" ".join([*SOCKETS, PROVISIONER, FRONT, *TIMERS])}; do
  systemctl --quiet is-enabled "$unit" || echo "$unit is not started at boot"
  systemctl --quiet is-active "$unit" || echo "$unit does not run"
done
[[ $(readlink {ROOT}/current) == releases/{spec.release.version} ]] ||
  echo "Zaki {spec.release.version} is not what serves"
"""


def render_undo(spec: ServiceSpec) -> str:
    """Takes the services away; what they keep stays unless the specification says otherwise."""
    units = " ".join([*TIMERS, FRONT, PROVISIONER, *SOCKETS])
    gone = (
        ""
        if spec.keep_data
        else f"""\
if command -v docker >/dev/null; then
  docker ps --all --quiet --filter label={INSTANCE_LABEL} | xargs --no-run-if-empty docker rm --force >/dev/null
  docker volume ls --quiet --filter label={INSTANCE_LABEL} | xargs --no-run-if-empty docker volume rm >/dev/null
fi
"""
    )
    nothing_kept = (
        ""
        if spec.keep_data
        else f"""\
rm -rf --one-file-system {spec.volumes}
# The undos that are still to come need what they have there, and take it away.
find {STATE} -mindepth 1 -maxdepth 1 ! -name steps ! -name ufw ! -name swap -exec rm -rf --one-file-system {{}} +
userdel zaki-front || true
groupdel zaki || true
"""
    )
    return f"""\
systemctl disable {units} || true
rm -f {ROOT}/current {ROOT}/previous {ROOT}/addresses {ROOT}/settings
{_STOP}\
{gone}\
findmnt --noheadings --raw --output TARGET | {{ grep "^{spec.volumes}/" || true; }} | while read -r place; do
  umount "$place"
done
{nothing_kept}"""


def _assigned(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
