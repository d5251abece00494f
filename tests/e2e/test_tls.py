"""HTTPS on a real systemd: Debian's Caddy, a certificate of an authority's or of the host's own, and its renewal."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread

import pytest

from bot.demo.settings import free_port
from infra import hardening
from infra.tls import FOLDER, PROGRAM, RENEWAL, UNDO, UNIT, TlsSpec, render_check, render_do, tls_files
from infra.units import FRONT
from tests.booted import Booted, booted, drift, step

DOMAIN = "bot.zaki.example"
CERTIFICATE = f"{FOLDER}/certificate.pem"


def free() -> int:
    return free_port("0.0.0.0", 0)


@pytest.fixture(scope="module")
def system() -> Iterator[Booted]:
    with booted(Path(tempfile.mkdtemp(prefix="zaki-booted-", dir="/tmp"))) as system:
        yield system


def tls(system: Booted, spec: TlsSpec, action: str = "do") -> subprocess.CompletedProcess[str]:
    return step(system, action, "tls", render_do(spec), undo=UNDO, check=render_check(spec), files=tls_files(spec))


class _Front(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Answer as the webhook does."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def front() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Front)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def post(port: int, name: str, trusted: str) -> int:
    """The status of a webhook's call by somebody who trusts this certificate alone, and calls the loopback by name."""
    context = ssl.create_default_context(cadata=trusted)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=40) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        head = (
            f"POST /telegram/webhook HTTP/1.1\r\nHost: {name}:{port}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
        )
        secured.sendall(head.encode() + b"{}")
        return int(secured.recv(4096).split()[1])


def test_a_host_without_a_name_signs_its_own_certificate_and_renews_it(system: Booted, front: str) -> None:
    spec = TlsSpec(address=IPv4Address("127.0.0.1"), front=front, port=free())
    done = tls(system, spec)
    assert done.returncode == 0, done.stderr
    # As the front, which is nobody to this folder.
    first = system.run("runuser", "-u", "nobody", "--", "cat", CERTIFICATE).stdout
    assert post(spec.port, "127.0.0.1", first) == 200
    assert drift(system, "tls") == ""
    assert system.active(RENEWAL)
    # The key is Caddy's alone, the certificate everybody's.
    assert system.run("stat", "-c", "%a %U:%G", f"{FOLDER}/server.pem").stdout == "640 root:zaki-tls\n"
    assert "PRIVATE" not in first

    # One that has a while to go stays.
    system.run("systemctl", "start", RENEWAL.replace("timer", "service"))
    assert system.run("cat", CERTIFICATE).stdout == first
    age(system, "127.0.0.1")
    assert "was not renewed" in drift(system, "tls")
    system.run("systemctl", "start", RENEWAL.replace("timer", "service"))
    second = system.run("cat", CERTIFICATE).stdout
    assert second != first
    assert post(spec.port, "127.0.0.1", second) == 200
    with pytest.raises(ssl.SSLError):
        post(spec.port, "127.0.0.1", first)
    assert drift(system, "tls") == ""

    # Again is no trouble, and no reason for another certificate.
    assert tls(system, spec).returncode == 0
    assert system.run("cat", CERTIFICATE).stdout == second
    system.run("systemctl", "stop", UNIT)
    assert f"{UNIT} does not run" in drift(system, "tls")

    done = tls(system, spec, "undo")
    assert done.returncode == 0, done.stderr
    assert not system.active(RENEWAL)
    assert (
        system.run(
            "sh", "-c", f"ls {FOLDER} {PROGRAM} /etc/systemd/system | grep -c -e pem -e zaki-tls", check=False
        ).stdout
        == "0\n"
    )
    assert system.run("getent", "passwd", "zaki-tls", check=False).stdout == ""


def age(system: Booted, address: str) -> None:
    """Put a certificate in place that ends in ten days."""
    words = (
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 10 -subj /CN={address} -addext subjectAltName=IP:{address}"
    )
    system.run("sh", "-c", f"{words} -keyout /run/key -out /run/old && cat /run/old /run/key >{FOLDER}/server.pem")


@pytest.mark.parametrize("taken", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_has_is_left_to_them(system: Booted, taken: str) -> None:
    with socket.create_server((taken, 0)) as other:
        spec = TlsSpec(domain=DOMAIN, port=other.getsockname()[1])
        done = tls(system, spec)
        assert done.returncode == 1
        assert f"Port {spec.port} of this host is taken by" in done.stderr
        assert f"https://{DOMAIN}:{spec.port}/telegram/webhook" in done.stderr
        assert not system.active(UNIT)


@contextmanager
def authority(folder: Path, port: int) -> Iterator[tuple[str, str]]:
    """An ACME server that looks at this port for the proof: its directory, and what vouches for it over HTTPS."""
    listen, management, dns = free(), free(), free()
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", "key.pem", "-out", "ca.pem"]
    subprocess.run(words, cwd=folder, capture_output=True, check=True)
    settings = {
        "listenAddress": f"127.0.0.1:{listen}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(folder / "ca.pem"),
        "privateKey": str(folder / "key.pem"),
        "httpPort": 1,
        "tlsPort": port,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    environment = {"PATH": "/usr/bin:/bin", "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
    names = ["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", f"127.0.0.1:{dns}"]
    names += ["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", f"127.0.0.1:{free()}"]
    pebble = ["pebble", "-config", str(folder / "pebble.json"), "-dnsserver", f"127.0.0.1:{dns}"]
    with (folder / "authority.log").open("wb") as log, contextlib.ExitStack() as stack:
        for command in (names, pebble):
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        trusting = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        root = patient(
            lambda: urllib.request.urlopen(f"https://127.0.0.1:{management}/roots/0", context=trusting).read()
        )
        yield f"https://localhost:{listen}/dir", root.decode()


def patient(ask: Callable[[], bytes]) -> bytes:
    """What it gives once it gives anything."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return ask()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_a_name_gets_its_certificate_from_an_authority_over_port_443_alone(
    system: Booted, front: str, tmp_path: Path
) -> None:
    port = free()
    with authority(tmp_path, port) as (directory, root):
        spec = TlsSpec(domain=DOMAIN, email="ops@zaki.example", directory=directory, front=front, port=port)
        system.write({"/usr/local/share/ca-certificates/tests.crt": (tmp_path / "ca.pem").read_text()})
        system.run("update-ca-certificates")
        done = tls(system, spec)
        assert done.returncode == 0, done.stderr + (tmp_path / "authority.log").read_text()
        assert post(port, DOMAIN, root) == 200
        assert drift(system, "tls") == ""
        # Again: what is there is used again.
        before = (tmp_path / "authority.log").read_text().count("Issued certificate")
        assert before == 1
        assert tls(system, spec).returncode == 0
        assert (tmp_path / "authority.log").read_text().count("Issued certificate") == before
    assert tls(system, spec, "undo").returncode == 0
    assert system.run("ls", "/var/lib/zaki-tls", check=False).returncode != 0


def test_fail2ban_finds_the_line_in_the_journal_of_the_front_alone(system: Booted) -> None:
    # Unpacked only: one that runs would ban in this machine's own firewall.
    system.run("sh", "-c", "apt-cache policy fail2ban | grep -q 'Candidate: [0-9]' || apt-get update")
    system.run(
        "sh", "-c", "cd /run && apt-get download fail2ban python3-systemd && for p in *.deb; do dpkg -x $p /run/f; done"
    )
    system.write({"/run/f/etc/fail2ban/filter.d/zaki.conf": hardening.render_filter()})
    print_lines = (
        "import sys; sys.path.insert(0, '/run'); from refused import RefusedLine; line = RefusedLine()\n"
        "class R: pass\n"
        "for a in ('192.0.2.7', '::ffff:192.0.2.8', '2001:db8::9', '127.0.0.1', 'zaki refused 192.0.2.10'):\n"
        "    r = R(); r.client = R(); r.client.host = a; line.note(r)\n"
        "print('said: zaki refused 192.0.2.11', flush=True)\n"
    )
    source = (
        (Path(__file__).parents[2] / "bot/front/refused.py")
        .read_text()
        .replace("from fastapi import Request", "Request = object")
    )
    system.write({"/run/refused.py": source, "/run/lines.py": print_lines})
    for unit in (FRONT, "other.service"):
        system.run("systemd-run", "--quiet", "--wait", f"--unit={unit}", "python3", "/run/lines.py")
    system.run("journalctl", "--sync")
    words = [
        "env",
        "PYTHONPATH=/run/f/usr/lib/python3/dist-packages",
        "/usr/bin/python3",
        "/run/f/usr/bin/fail2ban-regex",
    ]
    words += ["--config", "/run/f/etc/fail2ban", "--print-all-matched", "--journalmatch", f"_SYSTEMD_UNIT={FRONT}"]
    found = system.run(*words, "systemd-journal", "zaki").stdout
    assert "3 matched" in found, found
    for address in ("192.0.2.7", "192.0.2.8", "2001:db8::9"):
        assert f"zaki refused {address}" in found
