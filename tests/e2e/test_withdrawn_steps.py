"""The steps of a host taken back on a real systemd: those that failed at once too, and nothing of theirs is left."""

from __future__ import annotations

import gc
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from infra import hardening, host
from infra.host import told_there
from infra.look import HostState
from infra.service import UNINSTALL, Release, ServiceSpec, render_secrets, render_undo
from infra.spec import HostSpec
from infra.steps import HostFile, Steps
from infra.tailnet import TailnetSpec
from infra.target import Target
from infra.tls import TlsSpec
from infra.units import CREDENTIALS
from tests.booted import Booted, booted, step
from tests.unit.infra.conftest import Declare

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SERVICE = ServiceSpec(release=Release("0.1.0", b""), gateway=IPv4Address("10.86.0.1"))
UNIT = "/etc/systemd/system/zaki-test.service"
REPOSITORY = "/srv/repository"
DIGEST = "sha256:" + "b" * 64
TARGET = Target(user="admin", host="192.0.2.7", host_key="ssh-ed25519 AAAA", port=22)
#: Of the machine's network and kernel, which a booted system shares, nothing is asked or changed.
PROGRAMS = {
    "/usr/local/bin/docker": f'[ "$1" != image ] || echo {DIGEST}',
    "/usr/sbin/nft": "exit 1",
    "/usr/sbin/swapoff": "exit 1",
    "/usr/sbin/ufw": "exit 0",
    "/usr/sbin/sshd": r"printf '%s\n' 'port 22' 'passwordauthentication no' 'kbdinteractiveauthentication no' "
    "'permitrootlogin no'",
}
RUNS = "[Service]\nExecStart=sleep infinity\n"


@pytest.fixture(scope="module")
def system() -> Iterator[Booted]:
    with booted(Path(tempfile.mkdtemp(prefix="zaki-booted-", dir="/tmp"))) as system:
        system.write({path: f"#!/bin/sh\n{script}\n" for path, script in PROGRAMS.items()})
        system.run("chmod", "0755", *PROGRAMS)
        system.write(
            {
                "/etc/systemd/system/ssh.service": "[Service]\nExecStart=sleep infinity\nExecReload=true\n",
                "/etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\n",
            }
        )
        system.run("systemctl", "daemon-reload")
        repository(system)
        yield system


@pytest.fixture(autouse=True)
def records(system: Booted) -> None:
    """The step before all others."""
    done = first(system, "do")
    assert done.returncode == 0, done.stderr


def first(system: Booted, action: str) -> subprocess.CompletedProcess[str]:
    return step(system, action, "records", "", undo="undo_rest\n", files={})


def left(system: Booted) -> str:
    """What of Zaki a withdrawn system still has."""
    found = "find /etc /run /opt /usr/local /var/lib/zaki -name '*zaki*' -not -path '/run/log/*'"
    return system.run("sh", "-c", f"{found} -not -path '/var/lib/zaki'; ls -A /var/lib/zaki").stdout


def test_the_last_undo_takes_back_what_failed_at_its_first_run(system: Booted) -> None:
    system.write({"/etc/motd": "somebody's\n"})
    order = "echo $name >>/srv/order\n"
    held = step(system, "do", "held", "true\n", undo=order, files={"/etc/zaki/held/x": HostFile("x")})
    assert held.returncode == 0, held.stderr
    files = {UNIT: HostFile(RUNS), "/etc/motd": HostFile("ours\n"), "/usr/local/lib/zaki/x": HostFile("x")}
    script = "systemctl daemon-reload\nsystemctl start zaki-test\nfail 'It does not become ready.'\n"
    undo = f"systemctl stop zaki-test\n{order}"
    assert step(system, "do", "failed", script, undo=undo, files=files).returncode == 1
    # Another run of the older one does not make it the newer.
    assert step(system, "do", "held", "true\n", undo=order, files={}).returncode == 0
    assert system.active("zaki-test")

    done = first(system, "undo")
    assert done.returncode == 0, done.stderr
    assert system.run("cat", "/srv/order").stdout == "failed\nheld\n"
    assert not system.active("zaki-test")
    assert system.run("cat", "/etc/motd").stdout == "somebody's\n"
    assert left(system) == ""
    assert system.run("ls", "-d", "/run/lock/zaki-step-failed", "/run/zaki-steps", check=False).stdout == ""


def test_what_cannot_be_taken_back_stops_the_last_undo_which_goes_on_later(system: Booted) -> None:
    undo = "[[ -e /srv/may-go ]] || fail 'Not yet.'\n"
    assert step(system, "do", "stays", "exit 1\n", undo=undo, files={UNIT: HostFile(RUNS)}).returncode == 1
    done = first(system, "undo")
    assert done.returncode == 1
    assert "Not yet." in done.stderr
    assert system.run("ls", UNIT).stdout == f"{UNIT}\n"
    system.write({"/srv/may-go": ""})
    done = first(system, "undo")
    assert done.returncode == 0, done.stderr
    assert left(system) == ""


def test_data_go_and_what_the_other_undos_need_stays(system: Booted) -> None:
    program = "/usr/local/lib/zaki/other"
    other = {program: HostFile("#!/bin/sh\nrm -r /var/lib/zaki/ufw && touch /srv/undone\n", mode=0o755)}
    kept = "mkdir -p /var/lib/zaki/ufw /var/lib/zaki/swap\n"
    assert step(system, "do", "other", kept, undo=f"rmdir /var/lib/zaki/swap\n{program}\n", files=other).returncode == 0
    sealed = step(system, "do", "secrets", render_secrets(), undo=f"rm -rf {CREDENTIALS}", files={}, secret="{}")
    assert sealed.returncode == 0, sealed.stderr
    assert step(system, "do", "release", "mkdir -p /opt/zaki\n", undo=UNINSTALL, files={}).returncode == 0
    data = (
        "mkdir -p /var/lib/zaki/db /var/lib/zaki/volumes /var/lib/zaki/.hidden\ntouch /var/lib/zaki/db/zaki.sqlite3\n"
    )
    undo = render_undo(replace(SERVICE, keep_data=False))
    assert step(system, "do", "service", data, undo=undo, files={UNIT: HostFile(RUNS)}).returncode == 0

    done = step(system, "undo", "service", data, undo=undo, files={})
    assert done.returncode == 0, done.stderr
    assert system.run("ls", "-A", "/var/lib/zaki").stdout.split() == ["steps", "swap", "ufw"]
    done = first(system, "undo")
    assert done.returncode == 0, done.stderr
    assert system.run("ls", "/srv/undone").stdout == "/srv/undone\n"
    assert left(system) == ""


def test_what_another_form_of_the_step_told_is_not_given_back(system: Booted) -> None:
    by_name = HostSpec(image="zaki/openclaw:1", host_file="/etc/zaki/host.json", target=TARGET)
    by_digest = replace(by_name, image=f"zaki/openclaw@{DIGEST}")
    for spec in (by_name, by_digest):
        told = told_there(spec, f'{{\n  "image": "{spec.image}",\n}}\n')
        done = step(system, "do", "host-file", **told)
        assert done.returncode == 0, done.stderr
        assert DIGEST in system.run("cat", spec.host_file).stdout
    done = first(system, "undo")
    assert done.returncode == 0, done.stderr
    assert left(system) == ""


def repository(system: Booted) -> None:
    """All that apt knows: packages of which each has a program of its name, made ready as `SCRIPTS` says."""
    listed = []
    for name in ("zaki-one", "zaki-other"):
        control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: Zaki\nDescription: a test\n"
        folder = f"{REPOSITORY}/{name}"
        system.write(
            {
                f"{folder}/DEBIAN/control": control,
                f"{folder}/DEBIAN/postinst": f"#!/bin/sh\nset -e\n[ ! -x /srv/{name} ] || /srv/{name}\n",
                f"{folder}/usr/bin/{name}": "#!/bin/sh\n",
            }
        )
        system.run("chmod", "-R", "0755", folder)
        system.run("dpkg-deb", "--build", folder, f"{folder}.deb")
        size, checksum = system.run("sh", "-c", f"stat -c %s {folder}.deb; sha256sum <{folder}.deb").stdout.split()[:2]
        listed.append(f"{control}Filename: ./{name}.deb\nSize: {size}\nSHA256: {checksum}\n")
    system.run("sh", "-c", "rm -rf /etc/apt/sources.list*")
    system.write(
        {
            f"{REPOSITORY}/Packages": "\n".join(listed),
            "/etc/apt/sources.list": f"deb [trusted=yes] file:{REPOSITORY} ./\n",
        }
    )


def status(system: Booted, package: str) -> str:
    words = ("dpkg-query", "--show", "--showformat=${db:Status-Status}", package)
    return system.run(*words, check=False).stdout


def hook(system: Booted, path: str, script: str) -> None:
    """Have something happen once."""
    system.write({path: f"#!/bin/sh\nrm {path}\n{script}\n"})
    system.run("chmod", "0755", path)


def test_a_step_that_was_killed_among_packages_goes_on_and_takes_them_away(system: Booted) -> None:
    script = "command -v zaki-one || apt_install zaki-one\n[[ -e /srv/ready ]] || fail 'It is unpacked only.'\n"
    hook(system, "/srv/zaki-one", "systemctl kill --signal=KILL zaki-step-killed.service; sleep infinity")
    assert step(system, "do", "killed", script, files={}).returncode != 0
    assert status(system, "zaki-one") == "half-configured"

    hook(system, "/srv/zaki-one", "touch /srv/ready")
    done = step(system, "do", "killed", script, files={})
    assert done.returncode == 0, done.stderr
    assert status(system, "zaki-one") == "installed"
    done = step(system, "undo", "killed", script, files={})
    assert done.returncode == 0, done.stderr
    assert status(system, "zaki-one") in ("", "not-installed")


def test_packages_that_never_get_ready_go_too(system: Booted) -> None:
    system.write({"/srv/zaki-one": "#!/bin/sh\nexit 1\n"})
    system.run("chmod", "0755", "/srv/zaki-one")
    assert step(system, "do", "broken", "apt_install zaki-one\n", files={}).returncode == 1
    assert status(system, "zaki-one") == "half-configured"
    done = first(system, "undo")
    assert done.returncode == 0, done.stderr
    assert status(system, "zaki-one") in ("", "not-installed")
    system.run("rm", "/srv/zaki-one")


def test_what_somebody_else_installs_meanwhile_stays(system: Booted) -> None:
    hook(system, "/srv/meanwhile", f"dpkg --install {REPOSITORY}/zaki-other.deb")
    system.write(
        {"/etc/apt/apt.conf.d/99test": 'DPkg::Post-Invoke { "if [ -x /srv/meanwhile ]; then /srv/meanwhile; fi"; };\n'}
    )
    done = step(system, "do", "packages", "apt_install zaki-one\n", files={})
    assert done.returncode == 0, done.stderr
    assert status(system, "zaki-one") == status(system, "zaki-other") == "installed"
    done = step(system, "undo", "packages", "", files={})
    assert done.returncode == 0, done.stderr
    assert status(system, "zaki-one") in ("", "not-installed")
    assert status(system, "zaki-other") == "installed"


@pytest.mark.parametrize(
    "failing",
    ["", "arm() { exit 1; }\nput_files() { exit 1; }"],
    ids=["in its script", "before anything"],
)
def test_every_step_of_a_host_is_taken_back_after_it_failed_at_its_first_run(
    system: Booted, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    programs = declared(monkeypatch)
    assert {"kernel", "ufw", "docker", "service", "tls", "tailnet"} <= programs.keys()
    for name, program in programs.items():
        program = program.replace('\nmain "$@"', f'\nstep_do="exit 1"\n{failing}\nmain "$@"')
        system.write({f"/run/zaki-steps/{name}.sh": program})
        words = ("bash", "-euo", "pipefail", f"/run/zaki-steps/{name}.sh", "do", name, "token")
        assert system.run(*words, check=False).returncode == 1, name
    done = first(system, "undo")
    assert done.returncode == 0, done.stderr
    assert left(system) == ""


def declared(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The program of each step of a host that has everything, by name."""
    found = HostState("debian 12", True, "1700")
    monkeypatch.setattr(host, "Steps", lambda target: Steps(target, look=lambda _target: found))
    spec = HostSpec(
        image="zaki/openclaw:1",
        host_file="/etc/zaki/host.json",
        target=TARGET,
        harden=True,
        firewall=True,
        egress_lists={"standard": ("example.org",)},
    )
    tls = TlsSpec(address=IPv4Address("192.0.2.7"))
    tailnet = TailnetSpec(ssh_user=TARGET.user, ssh_only=True)
    secrets = {"telegram_token": "1:x", "tailscale_key": "tskey-auth-x"}

    def program() -> None:
        host.HostStack(
            "test", spec, service=replace(SERVICE, keep_data=False), tls=tls, tailnet=tailnet, secrets=secrets
        )

    recorder = Declare()("test", program, {})
    commands = {args.name: args.inputs for args in recorder.declared if args.typ.endswith(":Command")}
    gc.collect()
    programs = {name: command["stdin"] for name, command in commands.items() if "delete" in command}
    del programs["records"]
    # That of a step with a secret is one itself.
    return {name: given if isinstance(given, str) else given["value"] for name, given in programs.items()}


def test_sshd_that_a_socket_starts_takes_its_settings_and_loses_them(system: Booted) -> None:
    assert not system.active("ssh.service")
    script, files = hardening.render_sshd_do("admin"), {"/etc/ssh/sshd_config.d/10-zaki.conf": HostFile("")}
    for action in ("do", "undo"):
        done = step(system, action, "sshd", script, undo=hardening.SSHD_UNDO, files=files)
        assert done.returncode == 0, done.stderr
    assert not system.active("ssh.service")
