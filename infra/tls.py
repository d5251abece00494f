"""HTTPS for the webhook: Debian's Caddy before the front, with a certificate that renews itself.

Where a domain leads to the host, an authority signs the certificate (ACME, proven at port 443 itself, so that no other
port is open). Where only its address is known, the host signs its own, and the front gives it to Telegram.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

import pulumi

from infra.configuration import PROJECT, Configuration, SpecError
from infra.steps import HostFile, Steps

USER = "zaki-tls"
UNIT = "zaki-tls.service"
RENEWAL = "zaki-tls-renew.timer"
FOLDER = "/etc/zaki/tls"
#: Account and certificates of ACME.
STATE = "/var/lib/zaki-tls"
PROGRAM = "/usr/local/lib/zaki/webhook-certificate"
#: Days that a certificate of our own holds, and before whose end it is renewed.
_DAYS = 365
_RENEWED_BEFORE = 30
#: Seconds that an authority gets for the first certificate.
_SIGNED_WITHIN = 120

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{4,253}}$)(?:{_LABEL}\.)+(?!\d+$){_LABEL}")
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,190}")
_DIRECTORY = re.compile(r"https://[A-Za-z0-9.-]+(?::\d{1,5})?(?:/[A-Za-z0-9._~/-]*)?")
#: Where nobody on the Internet gets to.
_INSIDE = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
    )
]


@dataclass(frozen=True, slots=True)
class TlsSpec:
    """Under which name or address the webhook is reached, and who vouches for it."""

    #: A name that leads to the host; None: `address` does.
    domain: str | None = None
    address: IPv4Address | None = None
    #: Where the authority writes to when a certificate is in trouble.
    email: str | None = None
    #: Another ACME directory than Let's Encrypt's.
    directory: str | None = None
    #: Whether the log-in of operators is open to everybody; they come over the tailnet where there is one.
    admin: bool = True
    #: The front's public side.
    front: str = "127.0.0.1:8080"
    #: One of those that Telegram calls.
    port: int = 443

    def __post_init__(self) -> None:
        if self.domain is not None and self.address is not None:
            raise SpecError(
                f"{PROJECT}:domain and {PROJECT}:public_address are both set; leave the address out, for the domain's "
                "certificate needs none."
            )
        if self.domain is None and self.address is None:
            raise SpecError(f"{PROJECT}:domain and {PROJECT}:public_address are both unset; set one of them.")
        if self.domain is not None and not _DOMAIN.fullmatch(self.domain):
            raise SpecError(
                f"{PROJECT}:domain is {self.domain!r}; give a name in lower case that leads to the host, for example "
                f"bot.example.org (one with other letters as xn--…), or set {PROJECT}:public_address."
            )
        for key, value in (("acme_email", self.email), ("acme_ca", self.directory)):
            if value is not None and self.domain is None:
                raise SpecError(
                    f"{PROJECT}:{key} is set and {PROJECT}:domain is not; an address gets no certificate from an "
                    "authority, so leave it out."
                )
        if self.email is not None and not _EMAIL.fullmatch(self.email):
            raise SpecError(f"{PROJECT}:acme_email is {self.email!r}; give an e-mail address, or leave it out.")
        if self.directory is not None and not _DIRECTORY.fullmatch(self.directory):
            raise SpecError(
                f"{PROJECT}:acme_ca is {self.directory!r}; give the https:// URL of an ACME directory, or leave it out."
            )

    @classmethod
    def from_config(cls, config: Configuration) -> TlsSpec | None:
        """Read `domain` or `public_address`, and what belongs to it; None: long polling needs nothing of it.

        Raises:
            SpecError: A value cannot be used.
        """
        domain, address = config.get("domain"), config.get("public_address")
        email, directory = config.get("acme_email"), config.get("acme_ca")
        if domain is None and address is None:
            for key, value in (("acme_email", email), ("acme_ca", directory)):
                if value is not None:
                    raise SpecError(
                        f"{PROJECT}:{key} is set and {PROJECT}:domain is not; set the name that leads to the host."
                    )
            return None
        return cls(
            domain=domain,
            address=None if address is None else _public(address),
            email=email,
            directory=directory,
            admin=config.get("tailscale") != "true",
        )

    @property
    def host(self) -> str:
        """The name or the address."""
        return self.domain or str(self.address)

    @property
    def public_url(self) -> str:
        """What Telegram calls, without a path."""
        return f"https://{self.host}" + ("" if self.port == 443 else f":{self.port}")

    @property
    def settings(self) -> dict[str, str]:
        """What the services have to be told, by the names of their settings."""
        told = {"ZAKI_PUBLIC_URL": self.public_url}
        if self.address is not None:
            told["ZAKI_WEBHOOK_CERTIFICATE"] = f"{FOLDER}/certificate.pem"
        return told


def _public(text: str) -> IPv4Address:
    try:
        address = IPv4Address(text)
    except ValueError:
        raise SpecError(
            f"{PROJECT}:public_address is {text!r}; give the host's IPv4 address, or {PROJECT}:domain for a name."
        ) from None
    if any(address in network for network in _INSIDE):
        raise SpecError(
            f"{PROJECT}:public_address is {address}, which Telegram cannot reach; give the address that the host has "
            "on the Internet, or leave it out for long polling."
        )
    return address


def render_caddyfile(spec: TlsSpec) -> str:
    """Caddy's configuration: the webhook and the operators' log-in, and nothing else of the front."""
    if spec.domain is not None:
        issuer = [
            "\ttls {",
            "\t\tissuer acme {",
            *([f"\t\t\tdir {spec.directory}"] if spec.directory else []),
            *([f"\t\t\temail {spec.email}"] if spec.email else []),
            # Port 443 is the only one that is open.
            "\t\t\tdisable_http_challenge",
            f"\t\t\talt_tlsalpn_port {spec.port}",
            "\t\t}",
            "\t}",
        ]
    else:
        issuer = [f"\ttls {FOLDER}/server.pem {FOLDER}/server.pem"]
    paths = "/telegram/webhook" + (" /admin /admin/*" if spec.admin else "")
    lines = [
        "{",
        "\tadmin unix//run/zaki-tls/admin.sock",
        "\tauto_https disable_redirects",
        f"\tstorage file_system {STATE}",
        # Telegram names nobody where it calls an address.
        *([] if spec.address is None else [f"\tdefault_sni {spec.address}"]),
        "\tgrace_period 10s",
        "\tlog {",
        "\t\toutput stderr",
        "\t\tformat filter {",
        "\t\t\twrap json",
        "\t\t\tfields {",
        # Its headers have the webhook's secret, its path may have a log-in.
        "\t\t\t\trequest delete",
        "\t\t\t}",
        "\t\t}",
        "\t}",
        "\tservers {",
        "\t\tprotocols h1 h2",
        "\t\tmax_header_size 16KB",
        "\t\ttimeouts {",
        "\t\t\tread_header 10s",
        "\t\t\tread_body 30s",
        "\t\t\tidle 2m",
        "\t\t}",
        "\t}",
        "}",
        "",
        f"https://{spec.host}:{spec.port} {{",
        *issuer,
        f"\t@front path {paths}",
        "\thandle @front {",
        f"\t\treverse_proxy {spec.front} {{",
        # A front that restarts keeps its socket; where that is away too, what has no body is tried again (Caddy before
        # 2.11 has lost a body by then, and Telegram sends it again). A connection that was closed is never used again.
        "\t\t\tlb_try_duration 30s",
        "\t\t\tlb_try_interval 250ms",
        "\t\t\ttransport http {",
        "\t\t\t\tkeepalive off",
        "\t\t\t\tdial_timeout 5s",
        "\t\t\t}",
        "\t\t}",
        "\t}",
        "\thandle {",
        "\t\trespond 404",
        "\t}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def render_certificate_program(address: IPv4Address) -> str:
    """The program that makes the host's own certificate and renews it: `renew` or `status`."""
    return f"""\
#!/bin/bash
# The certificate of this Zaki host, which signs it itself: `renew` where it is time, or tell its `status`.
set -euo pipefail
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
folder={FOLDER} address={address}

holds() {{ # DAYS
  openssl x509 -in "$folder/server.pem" -noout -checkend $(($1 * 86400)) >/dev/null 2>&1 &&
    [[ $(openssl x509 -in "$folder/server.pem" -noout -checkip "$address") == *"does match"* ]]
}}
shown() {{ cmp --quiet "$folder/certificate.pem" <(openssl x509 -in "$folder/server.pem"); }}

renew() {{
  umask 077
  if ! holds {_RENEWED_BEFORE}; then
    openssl req -x509 -newkey rsa:2048 -sha256 -nodes -days {_DAYS} -subj "/CN=$address" \\
      -addext "subjectAltName=IP:$address" -keyout "$folder/.key" -out "$folder/.certificate" 2>/dev/null
    cat "$folder/.certificate" "$folder/.key" >"$folder/.server"
    rm "$folder/.certificate" "$folder/.key"
    chown root:{USER} "$folder/.server"
    chmod 0640 "$folder/.server"
    sync "$folder/.server"
    mv "$folder/.server" "$folder/server.pem"
  fi
  # Shown last: from it the front knows that Telegram has to be given another one.
  if ! shown; then
    systemctl try-reload-or-restart {UNIT}
    openssl x509 -in "$folder/server.pem" -out "$folder/.certificate"
    chmod 0644 "$folder/.certificate"
    mv "$folder/.certificate" "$folder/certificate.pem"
  fi
}}

case ${{1-}} in
  renew) renew ;;
  status)
    holds {_RENEWED_BEFORE - 2} || echo "the certificate for $address ends soon and was not renewed"
    shown || echo "the certificate that Telegram is given is not the one for $address"
    ;;
  *) echo "Usage: webhook-certificate renew|status" >&2; exit 2 ;;
esac
"""


_CADDY = f"""\
[Unit]
Description=HTTPS for Zaki's webhook
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
User={USER}
Group={USER}
Environment=HOME={STATE} XDG_CONFIG_HOME={STATE} XDG_DATA_HOME={STATE}
ExecStart=/usr/bin/caddy run --config {FOLDER}/Caddyfile --adapter caddyfile
ExecReload=/usr/bin/caddy reload --config {FOLDER}/Caddyfile --adapter caddyfile --force
StateDirectory=zaki-tls
StateDirectoryMode=0700
RuntimeDirectory=zaki-tls
RuntimeDirectoryMode=0700
UMask=0077
Restart=always
RestartSec=2
TimeoutStopSec=15
LimitNOFILE=65536
MemoryMax=512M
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

_RENEW = f"""\
[Unit]
Description=Renew the certificate of Zaki's webhook where it is time

[Service]
Type=oneshot
ExecStart={PROGRAM} renew
"""

_RENEW_TIMER = """\
[Unit]
Description=Renew the certificate of Zaki's webhook where it is time, each day

[Timer]
OnCalendar=daily
RandomizedDelaySec=1h
Persistent=yes

[Install]
WantedBy=timers.target
"""

_UNITS = "/etc/systemd/system"
_SYSUSERS = "/etc/sysusers.d/zaki-tls.conf"


def tls_files(spec: TlsSpec) -> dict[str, HostFile]:
    """Everything that it consists of, by path."""
    files = {
        f"{FOLDER}/Caddyfile": HostFile(render_caddyfile(spec)),
        _SYSUSERS: HostFile(f'u {USER} - "HTTPS for Zaki\'s webhook" {STATE}\n'),
        f"{_UNITS}/{UNIT}": HostFile(_CADDY),
    }
    if spec.address is not None:
        files |= {
            PROGRAM: HostFile(render_certificate_program(spec.address), mode=0o755),
            f"{_UNITS}/{RENEWAL.replace('.timer', '.service')}": HostFile(_RENEW),
            f"{_UNITS}/{RENEWAL}": HostFile(_RENEW_TIMER),
        }
    return files


def render_do(spec: TlsSpec) -> str:
    """The step's script: refuse a port that is taken, install, make or await the certificate, serve."""
    key = "domain" if spec.domain is not None else "public_address"
    if spec.address is not None:
        made = f"""\
{PROGRAM} renew || fail "This host could not make a certificate for {spec.host}: see the lines above."
"""
        then = f"""\
systemctl --quiet enable --now {RENEWAL}
"""
    else:
        made = f"""\
# What another form of the step may have left.
rm -f {FOLDER}/server.pem {FOLDER}/certificate.pem {_UNITS}/timers.target.wants/{RENEWAL}
systemctl --quiet stop {RENEWAL} 2>/dev/null || true
"""
        then = f"""\
for try in {{1..{_SIGNED_WITHIN}}}; do
  if served; then exit; fi
  sleep 1
done
fail "The authority signed no certificate for {spec.host} within {_SIGNED_WITHIN} seconds: see that the name leads to \
this host and that port {spec.port} is open to everybody; \\`journalctl -u zaki-tls\\` on the host has its reason, and \
Caddy tries on."
"""
    return f"""\
apt_install iproute2
ours=$(systemctl show --property=MainPID --value {UNIT})
while read -r line; do
  name="another process" pid=
  if [[ $line =~ \\"([^\\"]+)\\",pid=([0-9]+) ]]; then name=${{BASH_REMATCH[1]}} pid=${{BASH_REMATCH[2]}}; fi
  [[ -n $pid && $pid == "$ours" ]] ||
    fail "Port {spec.port} of this host is taken by $name${{pid:+ (process $pid)}}: stop it, or have it pass \
{spec.public_url}/telegram/webhook on to http://{spec.front}, unset zaki:{key} and set ZAKI_PUBLIC_URL among \
zaki:settings."
done < <(ss --no-header --listening --numeric --tcp --processes 'sport = :{spec.port}')
if ! [[ -x /usr/bin/caddy ]]; then
  # Debian's own unit would serve its page to everybody.
  if systemctl mask caddy.service; then touch "$record/masked"; fi
  apt_install caddy
fi
apt_install ca-certificates openssl
systemd-sysusers {_SYSUSERS}
{made}\
refusal=$(/usr/bin/caddy adapt --config {FOLDER}/Caddyfile --adapter caddyfile 2>&1 >/dev/null) ||
  fail "Caddy does not take its configuration: ${{refusal##*$'\\n'}}"
systemctl daemon-reload
systemctl --quiet enable {UNIT}
systemctl restart {UNIT} ||
  fail "Caddy does not start: see \\`journalctl -u zaki-tls\\` on this host."
{_served(spec)}\
{then}"""


def render_check(spec: TlsSpec) -> str:
    """Says what does not serve any more, and which certificate nobody renewed."""
    own = f"""\
systemctl --quiet is-active {RENEWAL} || echo "{RENEWAL} does not run, so the certificate is not renewed"
{PROGRAM} status
"""
    signed = f"""\
{_served(spec)}\
served || echo "Caddy has no certificate for {spec.host}, or none that holds for another week"
"""
    return f"""\
systemctl --quiet is-enabled {UNIT} || echo "{UNIT} is not started at boot"
systemctl --quiet is-active {UNIT} || echo "{UNIT} does not run"
{own if spec.address is not None else signed}"""


def _served(spec: TlsSpec) -> str:
    """Bash: whether a certificate is shown to who comes, and does not end within a week."""
    return f"""\
served() {{
  timeout 10 openssl s_client -connect 127.0.0.1:{spec.port} -servername {spec.host} </dev/null 2>/dev/null |
    openssl x509 -noout -checkend 604800 >/dev/null 2>&1
}}
"""


UNDO = f"""\
systemctl --quiet disable --now {UNIT} || true
systemctl --quiet disable --now {RENEWAL} 2>/dev/null || true
if [[ -e $record/masked ]]; then systemctl unmask caddy.service; fi
rm -rf {STATE}
rm -f {FOLDER}/server.pem {FOLDER}/certificate.pem
userdel {USER} || true
"""


class Tls(pulumi.ComponentResource):
    """HTTPS on a host; `ready` once somebody vouches for it."""

    ready: pulumi.Resource

    def __init__(
        self,
        name: str,
        spec: TlsSpec,
        steps: Steps,
        *,
        depends_on: Sequence[pulumi.Resource] = (),
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("zaki:index:Tls", name, None, opts)
        self.ready = steps.run(
            "tls",
            render_do(spec),
            undo=UNDO,
            check=render_check(spec),
            files=tls_files(spec),
            parent=self,
            depends_on=depends_on,
        )
        self.register_outputs({})
