"""What systemd is told of Zaki's two services: their units, users, folders and settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address

#: Where releases are, and where everything is that the services keep.
ROOT = "/opt/zaki"
STATE = "/var/lib/zaki"
CREDENTIALS = "/etc/zaki/credentials"
SETTINGS = "/etc/zaki/zaki.env"

FRONT = "zaki-front.service"
PROVISIONER = "zaki-provisioner.service"
SOCKETS = ("zaki-public.socket", "zaki-bridge.socket")
BACKUP = "zaki-backup.service"
TIMERS = ("zaki-doctor.timer", "zaki-backup.timer", "zaki-clean.timer")

#: Secrets that there may be, and who may read them; root's command has all, root's other tasks what the front has.
SECRETS: Mapping[str, tuple[str, ...]] = {
    "telegram_token": (FRONT,),
    "model_key": (FRONT,),
    "database_url": (FRONT, PROVISIONER),
    "backup_env": (BACKUP,),
}

_EVERYBODY = (FRONT, PROVISIONER, BACKUP)
_UNITS = "/etc/systemd/system"
_NAME = re.compile(r"ZAKI_[A-Z_]+")
_WITH_PASSWORD = re.compile(r"rest:https?://[^/]*:[^/]*@")

_SERVICE = """\
Type=notify
NotifyAccess=main
ExecStart={root}/current/venv/bin/zaki serve --role {role}
WorkingDirectory={root}
Environment=ZAKI_STATE={state} XDG_CACHE_HOME=/var/cache
EnvironmentFile={settings}
{credentials}Group=zaki
UMask=0007
Restart=on-failure
RestartSec=2
WatchdogSec={watchdog}
TimeoutStartSec={start}
LimitNOFILE=524288
"""

_FRONT = """\
[Unit]
Description=Zaki: between Telegram and the assistants
Wants=network-online.target zaki-provisioner.service
# It owns the keys, so it makes them.
After=network-online.target zaki-provisioner.service
Requires={sockets}
After={sockets}
StartLimitIntervalSec=0

[Service]
{service}Sockets={sockets}
User=zaki-front
TimeoutStopSec=30
OOMScoreAdjust=-500
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={state}
ReadOnlyPaths={state}/keys
InaccessiblePaths=-{state}/stacks -{state}/archives -/run/docker.sock -/run/containerd
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectProc=invisible
ProcSubset=pid
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
KeyringMode=private
RemoveIPC=yes

[Install]
WantedBy=multi-user.target
"""

# Whoever has Docker's socket is root; so it is root by name, and what holds it is what it listens to: nothing but the
# nudge. No setting below may give it a mount namespace, for the volumes that it mounts are the host's.
_PROVISIONER = """\
[Unit]
Description=Zaki: creates, wakes and mends the assistants
Wants=network-online.target docker.service
After=network-online.target docker.service
StartLimitIntervalSec=0

[Service]
{service}User=root
# Named, so that a daemon that is away is waited for.
Environment=DOCKER_HOST=unix:///run/docker.sock HOME=/root
# An engine that is at work gets to end.
TimeoutStopSec=90
OOMScoreAdjust=-400
# Mounts disks, and keeps the members of the firewall's sets.
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_NET_ADMIN CAP_KILL
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER CAP_FSETID
NoNewPrivileges=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service @mount
SystemCallErrorNumber=EPERM
KeyringMode=private

[Install]
WantedBy=multi-user.target
"""

_SOCKET = """\
[Unit]
Description=Zaki: {who}, also while the service restarts

[Socket]
ListenStream={listen}
{free}FileDescriptorName={name}
Service=zaki-front.service
Backlog=2048

[Install]
WantedBy=sockets.target
"""

_DOCTOR = """\
[Unit]
Description=Zaki: look for what is broken or left over
After=zaki-front.service zaki-provisioner.service

[Service]
Type=oneshot
ExecStart={root}/current/venv/bin/zaki doctor --json
WorkingDirectory={root}
Environment=ZAKI_STATE={state} XDG_CACHE_HOME=/var/cache HOME=/root DOCKER_HOST=unix:///run/docker.sock
EnvironmentFile={settings}
{credentials}Group=zaki
UMask=0007
Nice=19
"""

_DOCTOR_TIMER = """\
[Unit]
Description=Zaki: look for what is broken or left over, each day

[Timer]
OnCalendar=daily
RandomizedDelaySec=1h
Persistent=yes

[Install]
WantedBy=timers.target
"""

# Root, for it reads all that there is; what it does to an instance it does through Docker.
_BACKUP = """\
[Unit]
Description=Zaki: back up what a lost machine would cost
After=zaki-front.service zaki-provisioner.service

[Service]
Type=oneshot
ExecStart={root}/current/venv/bin/zaki backup --json
WorkingDirectory={root}
Environment=ZAKI_STATE={state} XDG_CACHE_HOME=/var/cache HOME=/root DOCKER_HOST=unix:///run/docker.sock
EnvironmentFile={settings}
{credentials}Group=zaki
UMask=0007
Nice=19
IOSchedulingClass=idle
"""

_BACKUP_TIMER = """\
[Unit]
Description=Zaki: back up what a lost machine would cost, each day

[Timer]
OnCalendar=*-*-* 03:00
RandomizedDelaySec=1h
Persistent=yes

[Install]
WantedBy=timers.target
"""

# Without an instance's name it removes nobody's files, and nothing at all where it cannot see everything.
_CLEAN = """\
[Unit]
Description=Zaki: remove what is nobody's, and what is old
After=zaki-front.service zaki-provisioner.service

[Service]
Type=oneshot
ExecStart={root}/current/venv/bin/zaki doctor --fix --yes --json
ExecStopPost=-find /var/cache/zaki/log -xdev -type f -mtime +30 -delete
ExecStopPost=-find /var/cache/zaki/pip -xdev -type f -mtime +90 -delete
WorkingDirectory={root}
Environment=ZAKI_STATE={state} XDG_CACHE_HOME=/var/cache HOME=/root DOCKER_HOST=unix:///run/docker.sock
EnvironmentFile={settings}
{credentials}Group=zaki
UMask=0007
Nice=19
IOSchedulingClass=idle
"""

_CLEAN_TIMER = """\
[Unit]
Description=Zaki: remove what is nobody's, and what is old, each week

[Timer]
OnCalendar=weekly
RandomizedDelaySec=6h
Persistent=yes

[Install]
WantedBy=timers.target
"""

_USERS = """\
g zaki - -
u zaki-front - "Zaki, between Telegram and the assistants" {state} -
m zaki-front zaki
"""

# One of two users may not rename the other's folders, hence the sticky bit. Each is made again at a boot, and re-owned.
_FOLDERS = """\
d {state} 3770 root zaki
d {state}/db 2770 root zaki
d {state}/run 3770 root zaki
d {state}/spool 2770 root zaki
d {state}/keys 2750 root zaki
d {state}/stacks 0700 root root
d {state}/archives 0700 root root
d {state}/backups 0700 root root
d {state}/.backup 0700 root root
d {state}/copies 0700 root root
d {credentials} 0700 root root
d /var/cache/zaki 0755 root root
"""

_COMMAND = """\
#!/bin/sh
# The command of this host's Zaki, with the settings and the credentials of its services.
[ "$(id -u)" = 0 ] || exec sudo "$0" "$@"
if [ -t 0 ] && [ -t 1 ]; then way=--pty; else way=--pipe; fi
exec systemd-run --quiet --collect --wait "$way" --service-type=exec --gid=zaki --property=UMask=0007 \\
  --property=WorkingDirectory={root} --property=EnvironmentFile={settings}{credentials} \\
  --setenv=ZAKI_STATE={state} --setenv=XDG_CACHE_HOME=/var/cache --setenv=HOME=/root \\
  --setenv=DOCKER_HOST=unix:///run/docker.sock --setenv=TERM="$TERM" \\
  {root}/current/venv/bin/zaki "$@"
"""


def render_units(
    listen: str, gateway: IPv4Address, bridge_port: int, secrets: frozenset[str], start_within: int
) -> dict[str, str]:
    """Every file but the settings, by its absolute path.

    Args:
        listen: Public side, `host:port` of the loopback.
        gateway: The host's address on the instances' bridge.
        bridge_port: What instances may reach there.
        secrets: Those of :data:`SECRETS` that are given.
        start_within: Seconds that a service gets to say that it serves.
    """
    names = " ".join(SOCKETS)
    task = {"root": ROOT, "state": STATE, "settings": SETTINGS, "credentials": _credentials(secrets, FRONT)}
    return {
        "/etc/sysusers.d/zaki.conf": _USERS.format(state=STATE),
        "/etc/tmpfiles.d/zaki.conf": _FOLDERS.format(state=STATE, credentials=CREDENTIALS),
        f"{_UNITS}/{FRONT}": _FRONT.format(
            service=_service("front", FRONT, 60, secrets, start_within), sockets=names, state=STATE
        ),
        f"{_UNITS}/{PROVISIONER}": _PROVISIONER.format(
            service=_service("provisioner", PROVISIONER, 120, secrets, start_within)
        ),
        f"{_UNITS}/{SOCKETS[0]}": _SOCKET.format(
            who="where the TLS proxy reaches the webhook", listen=listen, free="", name="public"
        ),
        # The bridge's address comes with Docker, which may start later.
        f"{_UNITS}/{SOCKETS[1]}": _SOCKET.format(
            who="what instances reach", listen=f"{gateway}:{bridge_port}", free="FreeBind=yes\n", name="bridge"
        ),
        f"{_UNITS}/zaki-doctor.service": _DOCTOR.format(**task),
        f"{_UNITS}/zaki-doctor.timer": _DOCTOR_TIMER,
        f"{_UNITS}/{BACKUP}": _BACKUP.format(**{**task, "credentials": _credentials(secrets, FRONT, BACKUP)}),
        f"{_UNITS}/zaki-backup.timer": _BACKUP_TIMER,
        f"{_UNITS}/zaki-clean.service": _CLEAN.format(**task),
        f"{_UNITS}/zaki-clean.timer": _CLEAN_TIMER,
        "/usr/local/bin/zaki": _COMMAND.format(
            root=ROOT, state=STATE, settings=SETTINGS, credentials=as_properties(secrets)
        ),
    }


def render_settings(settings: Mapping[str, str]) -> str:
    """An `EnvironmentFile=` of settings without secrets.

    Args:
        settings: By their names, for example `ZAKI_MODEL`.

    Raises:
        ValueError: A name or value cannot be written; the message is a sentence.
    """
    lines = []
    for name, value in sorted(settings.items()):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no setting; settings are called ZAKI_….")
        if name.removeprefix("ZAKI_").lower() in SECRETS:
            raise ValueError(f"{name} is a secret; set it with `pulumi config set --secret` under its own key.")
        if name == "ZAKI_BACKUP" and _WITH_PASSWORD.match(value):
            raise ValueError(
                "ZAKI_BACKUP holds a password, which would be readable; leave the login out, and set "
                "RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD in the secret zaki:backup_env."
            )
        if not value.isprintable():
            raise ValueError(f"{name} has a character that cannot be printed; leave it out.")
        quoted = re.sub(r'(["\\$`])', r"\\\1", value)
        lines.append(f'{name}="{quoted}"\n')
    return "".join(lines)


def as_properties(secrets: frozenset[str]) -> str:
    """Words for `systemd-run` with which a command gets every secret."""
    return "".join(f" --property={line}" for line in _credentials(secrets, *_EVERYBODY).splitlines())


def _service(role: str, unit: str, watchdog: int, secrets: frozenset[str], start: int) -> str:
    return _SERVICE.format(
        root=ROOT,
        state=STATE,
        settings=SETTINGS,
        role=role,
        watchdog=watchdog,
        start=start,
        credentials=_credentials(secrets, unit),
    )


def _credentials(secrets: frozenset[str], *units: str) -> str:
    return "".join(
        f"LoadCredentialEncrypted=zaki_{name}:{CREDENTIALS}/zaki_{name}\n"
        for name, readers in SECRETS.items()
        if name in secrets and not set(units).isdisjoint(readers)
    )
