"""The address and the host key of a host, and a sentence for each way to get them wrong."""

from __future__ import annotations

from base64 import b64encode

import pytest

from infra.configuration import SpecError
from infra.target import Target

KEY = "ssh-ed25519 " + b64encode(b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + b"k" * 32).decode()


@pytest.mark.parametrize(
    ("url", "user", "host", "port"),
    [
        ("ssh://admin@host.example", "admin", "host.example", 22),
        ("ssh://root@192.0.2.7:2222", "root", "192.0.2.7", 2222),
        ("ssh://a@[2001:db8::7]:22/", "a", "2001:db8::7", 22),
    ],
)
def test_address_is_taken_apart(url: str, user: str, host: str, port: int) -> None:
    target = Target.parse(url, KEY)
    assert (target.user, target.host, target.port) == (user, host, port)
    assert Target.parse(target.url, KEY) == target


@pytest.mark.parametrize(
    "given", [KEY, f"{KEY} root@host", f"host.example {KEY}", f"[host.example]:2222 {KEY} comment", f"  {KEY}\n"]
)
def test_host_key_is_found_in_what_keyscan_prints(given: str) -> None:
    assert Target.parse("ssh://a@b", given).host_key == KEY


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("https://a@b", "is no SSH address"),
        ("a@b", "is no SSH address"),
        ("ssh://b", "does not say who logs in"),
        ("ssh://A b@c", "is no user's name"),
        ("ssh://a@b:0", "is no host and port"),
        ("ssh://a@b:99999", "is no host and port"),
        ("ssh://a@-oProxyCommand=x", "is no host and port"),
        ("ssh://a@", "is no host and port"),
    ],
)
def test_bad_address_is_one_sentence(url: str, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint) as refused:
        Target.parse(url, KEY)
    assert str(refused.value).endswith(".")


def test_password_in_an_address_is_not_repeated() -> None:
    with pytest.raises(SpecError, match="holds a password") as refused:
        Target.parse("ssh://admin:hunter2@host", KEY)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        (None, "is unset"),
        ("", "is unset"),
        ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ==", "a key of the kind ssh-rsa"),
        ("ecdsa-sha2-nistp256 AAAA", "a key of the kind ecdsa-sha2-nistp256"),
        ("SHA256:abc", "no public host key"),
        ("ssh-ed25519", "not a whole"),
        ("ssh-ed25519 AAAA", "not a whole"),
        (KEY[:-4], "not a whole"),
    ],
)
def test_bad_host_key_is_one_sentence_that_says_where_to_get_it(key: str | None, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint) as refused:
        Target.parse("ssh://a@host.example:2222", key)
    assert "ssh-keyscan -t ed25519 -p 2222 host.example" in str(refused.value)
