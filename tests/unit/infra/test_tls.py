"""What the webhook's HTTPS is made from, and what is refused."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from infra import tls
from infra.configuration import SpecError
from infra.tls import TlsSpec, render_caddyfile

DOMAIN = TlsSpec(domain="bot.example.org")
ADDRESS = TlsSpec(address=IPv4Address("203.0.113.9"))


class Config(dict[str, str]):
    """A stack's configuration."""


def read(**values: str) -> TlsSpec | None:
    return TlsSpec.from_config(Config(values))


def test_without_a_name_and_an_address_there_is_long_polling() -> None:
    assert read() is None


def test_the_services_are_told_where_telegram_calls() -> None:
    named, addressed = read(domain="bot.example.org"), read(public_address="203.0.113.9")
    assert named is not None
    assert addressed is not None
    assert named.settings == {"ZAKI_PUBLIC_URL": "https://bot.example.org"}
    assert addressed.settings == {
        "ZAKI_PUBLIC_URL": "https://203.0.113.9",
        "ZAKI_WEBHOOK_CERTIFICATE": "/etc/zaki/tls/certificate.pem",
    }


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"domain": "https://bot.example.org"}, "zaki:domain is 'https://bot.example.org'; give a name"),
        ({"domain": "Bot.example.org"}, "zaki:domain"),
        ({"domain": "bot"}, "zaki:domain"),
        ({"domain": "203.0.113.9"}, "or set zaki:public_address"),
        ({"domain": "*.example.org"}, "zaki:domain"),
        ({"domain": "bot.example.org\n}"}, "zaki:domain"),
        ({"domain": "-a.example.org"}, "zaki:domain"),
        ({"domain": "a" * 64 + ".org"}, "zaki:domain"),
        ({"domain": ""}, "zaki:domain"),
        ({"domain": "bot.example.org", "public_address": "203.0.113.9"}, "both set"),
        ({"public_address": "bot.example.org"}, "or zaki:domain for a name"),
        ({"public_address": "2001:db8::1"}, "IPv4 address"),
        ({"public_address": "192.168.1.2"}, "Telegram cannot reach"),
        ({"public_address": "127.0.0.1"}, "Telegram cannot reach"),
        ({"public_address": "203.0.113.9", "acme_email": "a@example.org"}, "zaki:acme_email is set and zaki:domain"),
        ({"acme_ca": "https://ca.example.org/directory"}, "zaki:acme_ca is set and zaki:domain is not"),
        ({"domain": "bot.example.org", "acme_email": "nobody"}, "zaki:acme_email is 'nobody'"),
        ({"domain": "bot.example.org", "acme_email": "a@b.org {"}, "zaki:acme_email"),
        ({"domain": "bot.example.org", "acme_ca": "http://ca.example.org"}, "zaki:acme_ca"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(values: dict[str, str], reason: str) -> None:
    with pytest.raises(SpecError, match=re.escape(reason)) as refused:
        read(**values)
    assert str(refused.value).endswith(".")


def test_names_of_other_alphabets_are_taken_as_they_are_in_the_dns() -> None:
    assert read(domain="xn--bcher-kva.example.org") is not None


@pytest.mark.parametrize(("tailscale", "shown"), [("true", False), ("false", True)])
def test_the_operators_log_in_is_not_public_where_there_is_a_tailnet(tailscale: str, shown: bool) -> None:
    spec = read(domain="bot.example.org", tailscale=tailscale)
    assert spec is not None
    assert (" /admin/*" in render_caddyfile(spec)) is shown
    assert "/telegram/webhook" in render_caddyfile(spec)


def test_an_authority_of_ones_own_is_asked() -> None:
    text = render_caddyfile(replace(DOMAIN, email="ops@example.org", directory="https://ca.example.org/directory"))
    assert "\t\t\tdir https://ca.example.org/directory\n" in text
    assert "\t\t\temail ops@example.org\n" in text


@pytest.mark.parametrize("spec", [DOMAIN, ADDRESS])
def test_scripts_are_bash(spec: TlsSpec) -> None:
    for script in (tls.render_do(spec), tls.render_check(spec), tls.render_certificate_program(IPv4Address(1))):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
