"""Admission: who may have an instance, and the polite sentence for who may not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.ext.asyncio import AsyncSession

from bot.settings import Admission, Settings
from bot.store import now
from bot.store.tables import User, UserStatus, Wanted
from bot.timeline import Stage, note
from bot.users import invites, people, places


class Refused(StrEnum):
    """Why somebody gets no instance."""

    CLOSED = "closed"
    INVITATION = "invitation"  #: none was given
    CODE = "code"  #: the one given is unknown, used up or over
    FULL = "full"
    SUSPENDED = "suspended"

    @property
    def sentence(self) -> str:
        """What the person is told, as Telegram's HTML."""
        return _SENTENCES[self]


_SENTENCES = {
    Refused.CLOSED: "Sorry, I am not taking in anybody new at the moment.",
    Refused.INVITATION: (
        "Sorry, this bot is by invitation. If you have an invite code, send <code>/start CODE</code> with it."
    ),
    Refused.CODE: "Sorry, this invite code does not work: it is mistyped, used up or over. Please ask for a new one.",
    Refused.FULL: "Sorry, all places are taken right now. Please try again another day.",
    Refused.SUSPENDED: "Sorry, your access is suspended. The people who run this bot can tell you more.",
}


@dataclass(frozen=True)
class Decision:
    """Who it is and whether they are in."""

    user: User
    #: None: admitted.
    refused: Refused | None = None
    #: Admitted just now, so that their instance is wished for.
    new: bool = False


class _NotAdmitted(Exception):
    def __init__(self, reason: Refused) -> None:
        super().__init__(reason)
        self.reason = reason


async def admit(session: AsyncSession, settings: Settings, user: User, code: str = "") -> Decision:
    """Decide in the caller's transaction; somebody new gets a place and a wish for an instance.

    `code` is an invite code; where it does not help, none of it is used up.
    """
    if user.status == UserStatus.SUSPENDED:
        return Decision(user, Refused.SUSPENDED)
    if user.status != UserStatus.REFUSED:
        return Decision(user)
    try:
        async with session.begin_nested():
            by_code = await _take_place(session, settings, user.telegram_id, code)
    except _NotAdmitted as refusal:
        note(session, user.telegram_id, Stage.REFUSED, refusal.reason)
        return Decision(user, refusal.reason)
    user.status, user.refusal_told_at, user.invite_code = UserStatus.ACTIVE, None, code if by_code else None
    await people.wish(session, user, Wanted.AWAKE)
    note(session, user.telegram_id, Stage.ADMITTED)
    return Decision(user, new=True)


def tell_once(user: User) -> bool:
    """Whether this is the first refusal, which is told; the ones after it are silent."""
    if user.refusal_told_at is not None:
        return False
    user.refusal_told_at = now()
    return True


async def _take_place(session: AsyncSession, settings: Settings, telegram_id: int, code: str) -> bool:
    """Take a place, or raise with the reason; True where the code was used for it."""
    # The cap is the host's and holds for operators too; who they let in is theirs to say.
    admission = Admission.OPEN if telegram_id in settings.operators else settings.effective_admission
    if admission is Admission.CLOSED:
        raise _NotAdmitted(Refused.CLOSED)
    if admission is Admission.INVITE and not code:
        raise _NotAdmitted(Refused.INVITATION)
    if not await places.take(session, settings.max_instances):
        raise _NotAdmitted(Refused.FULL)
    if admission is Admission.INVITE and not await invites.redeem(session, code):
        raise _NotAdmitted(Refused.CODE)
    return admission is Admission.INVITE
