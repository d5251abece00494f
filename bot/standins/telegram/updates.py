"""Updates that wait to be fetched or delivered."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bot.standins.telegram.bell import Bell
from bot.standins.telegram.clock import Clock
from bot.standins.telegram.state import Json

#: The types that Telegram leaves out unless a bot asks for them.
ONLY_WHEN_ASKED = frozenset({"message_reaction", "message_reaction_count", "chat_member"})


@dataclass
class Update:
    """One update and its delivery queue; `expires_at` in seconds since the epoch."""

    id: int
    kind: str
    #: One is in flight per queue: a chat's, or a user's for callback queries.
    queue: str
    content: Json
    expires_at: float

    def as_update(self) -> Json:
        return {"update_id": self.id, self.kind: self.content}


@dataclass
class PendingUpdates:
    """The bot's unacknowledged updates, in order."""

    clock: Clock
    #: The number before the first update's.
    last_id: int
    #: None: every type but those in `ONLY_WHEN_ASKED`.
    allowed: frozenset[str] | None = None
    bell: Bell = field(default_factory=Bell)
    _updates: dict[int, Update] = field(default_factory=dict)

    def __len__(self) -> int:
        self._drop_expired()
        return len(self._updates)

    def __iter__(self) -> Iterator[Update]:
        self._drop_expired()
        return iter(list(self._updates.values()))

    def allow(self, kinds: Iterable[str] | None) -> None:
        """Keep only these types from now on; an empty list means the default, None changes nothing."""
        if kinds is not None:
            self.allowed = frozenset(kinds) or None

    def add(self, kind: str, queue: str, content: Json, lifetime: float) -> Update | None:
        """Queue an update; None if the bot did not ask for its type."""
        if kind in ONLY_WHEN_ASKED if self.allowed is None else kind not in self.allowed:
            return None
        self.last_id += 1
        update = Update(self.last_id, kind, queue, content, self.clock.time() + lifetime)
        self._updates[update.id] = update
        self.bell.ring()
        return update

    def holds(self, update_id: int) -> bool:
        """Whether this update still waits."""
        self._drop_expired()
        return update_id in self._updates

    def forget(self, update_id: int) -> None:
        self._updates.pop(update_id, None)

    def forget_before(self, update_id: int) -> None:
        """Acknowledge every update with a smaller id."""
        for known in list(self._updates):
            if known < update_id:
                del self._updates[known]

    def clear(self) -> None:
        self._updates.clear()

    def _drop_expired(self) -> None:
        now = self.clock.time()
        for update in list(self._updates.values()):
            if update.expires_at < now:
                del self._updates[update.id]
