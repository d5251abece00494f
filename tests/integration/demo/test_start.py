"""What a demo does about the people of the one before it, who are gone."""

from __future__ import annotations

from sqlalchemy import select

from bot.demo.app import forget_the_last_demo
from bot.store import Database, now
from bot.store.tables import InboxStatus, InboxUpdate, Recipient, User, UserStatus, Wanted, Wish


async def test_nobody_waits_for_what_somebody_wrote_to_the_last_demo(database: Database) -> None:
    async with database.write() as session:
        user = User(telegram_id=1, status=UserStatus.ACTIVE, created_at=now())
        session.add(user)
        await session.flush()
        session.add(Wish(user_id=user.id, wanted=Wanted.AWAKE, asked_at=now()))
        session.add(
            InboxUpdate(
                update_id=1,
                telegram_id=1,
                kind="message",
                recipient=Recipient.INSTANCE,
                body=b"{}",
                received_at=now(),
                expires_at=now() + 3600,
            )
        )

    await forget_the_last_demo(database)

    async with database.read() as session:
        unread = (await session.scalars(select(InboxUpdate))).one()
        wish = (await session.scalars(select(Wish))).one()
    assert (unread.status, unread.body) == (InboxStatus.EXPIRED, b"")
    assert wish.wanted == Wanted.STOPPED
