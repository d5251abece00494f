"""The rendered configuration: what every instance must and must not be told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.credentials import FrontKey, GatewayKey
from bot.nobody import NOBODY
from bot.provisioner.openclaw import (
    OWNER_LISTS,
    GatewayConfig,
    Owner,
    config_hash,
    render_config,
    render_user_file,
)

ID = "u-abcdefghij"


def gateway_config(**owner: object) -> GatewayConfig:
    return GatewayConfig(
        owner=replace(Owner(4242, None, None), **owner),  # type: ignore[arg-type]
        credentials=FrontKey(b"f" * 32).derive(ID, 1),
        gateway_token=GatewayKey(b"g" * 32).derive(ID, 1),
        front_url="http://10.86.0.1:8081",
    )


def test_speaks_to_the_front_alone() -> None:
    rendered = render_config(gateway_config())
    assert rendered["channels"]["telegram"]["apiRoot"] == "http://10.86.0.1:8081/telegram"
    assert [provider["baseUrl"] for provider in rendered["models"]["providers"].values()] == [
        "http://10.86.0.1:8081/llm/v1"
    ]


def test_only_the_owner_may_write_and_command() -> None:
    rendered = render_config(gateway_config())
    assert rendered["channels"]["telegram"]["allowFrom"] == ["4242"]
    assert rendered["channels"]["telegram"]["dmPolicy"] == "allowlist"
    assert rendered["commands"] == {"ownerAllowFrom": ["telegram:4242"], "restart": False}


def test_time_zone_only_where_it_is_known() -> None:
    assert "userTimezone" not in render_config(gateway_config())["agents"]["defaults"]
    rendered = render_config(gateway_config(timezone="Europe/Berlin"))
    assert rendered["agents"]["defaults"]["userTimezone"] == "Europe/Berlin"


@pytest.mark.parametrize("change", [{"call_name": "Ada"}, {"timezone": "Asia/Tokyo"}, {"telegram_id": 5}])
def test_hash_follows_each_fact_of_the_person(change: dict[str, object]) -> None:
    assert config_hash(gateway_config(**change)) != config_hash(gateway_config())


def test_hash_follows_the_credentials() -> None:
    rotated = replace(gateway_config(), credentials=FrontKey(b"f" * 32).derive(ID, 2))
    assert config_hash(rotated) != config_hash(gateway_config())


@given(st.text())
def test_a_name_stays_one_quoted_line(name: str) -> None:
    written = render_user_file(Owner(1, name, None), None)
    line = next(line for line in written.split("\n") if line.startswith("- Address the user by the name "))
    quoted = line.removeprefix("- Address the user by the name ").removesuffix(".")
    assert isinstance(json.loads(quoted), str)
    assert len(written.split("\n")) == len(render_user_file(Owner(1, "Ada", None), None).split("\n"))


def test_a_new_name_leaves_what_the_assistant_wrote() -> None:
    first = render_user_file(Owner(1, "Ada", None), None)
    grown = first.replace("## Directives", "## Directives\n\n- Prefer short answers.") + "\n- Never call on Sundays.\n"
    second = render_user_file(Owner(1, "Grace", "Europe/Paris"), grown)
    assert "- Prefer short answers." in second
    assert "- Never call on Sundays." in second
    assert '"Grace"' in second
    assert '"Ada"' not in second
    assert render_user_file(Owner(1, "Grace", "Europe/Paris"), second) == second


def test_a_file_without_our_block_gets_one_and_keeps_the_rest() -> None:
    written = render_user_file(Owner(1, "Ada", None), "# mine\n")
    assert written.startswith("# mine\n")
    assert '"Ada"' in written


OWNERS = st.builds(
    Owner,
    telegram_id=st.integers(1, 2**52 - 1),
    call_name=st.none() | st.text(max_size=20),
    timezone=st.sampled_from([None, "Europe/Berlin", "Asia/Tokyo"]),
)


@given(OWNERS)
def test_whoever_claims_a_member_becomes_its_only_owner(owner: Owner) -> None:
    members = gateway_config(telegram_id=NOBODY)
    theirs = replace(members, owner=owner)
    assert merged(render_config(members), render_config(theirs)) == render_config(theirs)
    assert str(NOBODY) not in json.dumps(render_config(theirs))
    assert str(owner.telegram_id) in json.dumps(render_config(theirs))


@given(OWNERS)
def test_the_lists_that_name_the_owner_are_all_that_loses_entries(owner: Owner) -> None:
    members, theirs = (render_config(gateway_config(telegram_id=each)) for each in (NOBODY, owner.telegram_id))
    before, after = dict(lists(members)), dict(lists(theirs))
    assert {path for path in before if before[path] != after[path]} == set(OWNER_LISTS)


def test_nobody_is_an_owner_that_telegram_never_has_and_javascript_counts() -> None:
    assert 2**52 <= NOBODY < 2**53


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, which is what a gateway does with a patch."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def lists(value: Any, path: str = "") -> Iterator[tuple[str, list[Any]]]:
    """The arrays in a configuration, by the path that OpenClaw gives them."""
    for name, each in value.items() if isinstance(value, dict) else ():
        below = f"{path}.{name}" if path else name
        if isinstance(each, list):
            yield below, each
        yield from lists(each, below)
