"""Who gets a place: by mode, by code and by cap, also when everybody comes at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import func, select

from bot.settings import Admission, Settings
from bot.store import Database, now
from bot.store.tables import Invite, User, UserStatus, Wanted, Wish
from bot.users import admission, invites, people, places
from bot.users.admission import Refused

MakeSettings = Callable[..., Settings]


async def _knock(database: Database, settings: Settings, telegram_id: int, code: str = "") -> Refused | None:
    async with database.write() as session:
        user = await people.remember(session, telegram_id, "Ada")
        return (await admission.admit(session, settings, user, code)).refused


async def test_a_cap_holds_when_everybody_comes_at_once(database: Database, make_settings: MakeSettings) -> None:
    settings = make_settings(admission=Admission.OPEN, max_instances=10)
    answers = await asyncio.gather(*(_knock(database, settings, number) for number in range(1, 201)))
    assert answers.count(None) == 10
    assert answers.count(Refused.FULL) == 190
    async with database.read() as session:
        assert await places.taken(session) == 10
        assert await session.scalar(select(func.count()).where(User.status == UserStatus.ACTIVE)) == 10
        assert await session.scalar(select(func.count()).select_from(Wish).where(Wish.wanted == Wanted.AWAKE)) == 10


async def test_one_person_at_once_takes_one_place(database: Database, make_settings: MakeSettings) -> None:
    settings = make_settings(admission=Admission.OPEN)
    answers = await asyncio.gather(*(_knock(database, settings, 1) for _ in range(20)))
    assert answers == [None] * 20
    async with database.read() as session:
        assert await places.taken(session) == 1


async def test_an_invite_for_one_lets_one_in(database: Database, make_settings: MakeSettings) -> None:
    settings = make_settings(admission=Admission.INVITE)
    async with database.write() as session:
        [code] = await invites.create(session)
    answers = await asyncio.gather(*(_knock(database, settings, number, code) for number in range(1, 31)))
    assert answers.count(None) == 1
    assert answers.count(Refused.CODE) == 29
    async with database.read() as session:
        assert await places.taken(session) == 1
        user = (await session.scalars(select(User).where(User.status == UserStatus.ACTIVE))).one()
        assert user.invite_code == code


async def test_a_code_is_not_used_up_by_somebody_for_whom_there_is_no_place(
    database: Database, make_settings: MakeSettings
) -> None:
    async with database.write() as session:
        [code] = await invites.create(session)
    full = make_settings(admission=Admission.INVITE, max_instances=0)
    assert await _knock(database, full, 1, code) is Refused.FULL
    assert await _knock(database, make_settings(admission=Admission.INVITE), 1, code) is None


async def test_a_code_that_does_not_help_takes_no_place(database: Database, make_settings: MakeSettings) -> None:
    settings = make_settings(admission=Admission.INVITE)
    async with database.write() as session:
        [over] = await invites.create(session, expires_in=-1.0)
        [removed] = await invites.create(session)
        assert await invites.rm(session, removed)
        assert not await invites.rm(session, removed)
    for code in (over, removed, "nonsense"):
        assert await _knock(database, settings, 1, code) is Refused.CODE
    async with database.read() as session:
        assert await places.taken(session) == 0


@pytest.mark.parametrize(
    ("mode", "refused"), [("open", None), ("invite", Refused.INVITATION), ("closed", Refused.CLOSED)]
)
async def test_the_mode_decides(
    database: Database, make_settings: MakeSettings, mode: str, refused: Refused | None
) -> None:
    settings = make_settings(admission=mode)
    assert await _knock(database, settings, 1) is refused


async def test_operators_need_no_invitation(database: Database, make_settings: MakeSettings) -> None:
    settings = make_settings(admission="closed", operators=(7,))
    assert await _knock(database, settings, 7) is None
    assert await _knock(database, settings, 8) is Refused.CLOSED


async def test_a_refusal_is_told_once_until_a_suspension_brings_another(
    database: Database, make_settings: MakeSettings
) -> None:
    async with database.write() as session:
        user = await people.remember(session, 1, "Ada")
        assert admission.tell_once(user)
        assert not admission.tell_once(user)
        await people.suspend(session, user)
        assert admission.tell_once(user)
    assert await _knock(database, make_settings(admission="open"), 1) is Refused.SUSPENDED


async def test_codes_are_listed_with_what_is_left_of_them(database: Database) -> None:
    async with database.write() as session:
        codes = await invites.create(session, count=3, uses=5, expires_in=60.0)
        assert await invites.redeem(session, codes[0])
    async with database.read() as session:
        listed = {invite.code: invite for invite in await invites.ls(session)}
    assert set(listed) == set(codes)
    assert [listed[code].uses_left for code in codes] == [4, 5, 5]
    assert all(isinstance(invite, Invite) and (invite.expires_at or 0) > now() for invite in listed.values())
