"""The tables, one schema for SQLite and PostgreSQL.

Times are Unix times in seconds (float, UTC). The front alone writes `users`, `invites`, `counters`, `inbox`, `wishes`,
`outbox`, `seen_files`, `usage` and `usage_days`; the provisioner alone writes `instances`, `addresses`,
`operations` and `decisions`, and adds `announcements`, which the front marks as told; both append to `timeline` and
`audit`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Double, ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# SQLite numbers rows by itself only where the key is a plain INTEGER.
_Serial = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Types of columns by their Python types."""

    type_annotation_map = {float: Double, dict[str, Any]: JSON, bytes: LargeBinary}  # noqa: RUF012


class UserStatus(StrEnum):
    """What may happen to a person's messages."""

    REFUSED = "refused"  #: not admitted; no instance
    ACTIVE = "active"
    SUSPENDED = "suspended"  #: by the operator
    BLOCKED = "blocked"  #: the person blocked the bot


class Onboarding(StrEnum):
    """Which of our questions the person is being asked."""

    NEW = "new"
    NAME = "name"
    TIMEZONE = "timezone"
    DONE = "done"


class User(Base):
    """A person on Telegram."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    telegram_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    first_name: Mapped[str] = mapped_column(Text, default="")
    username: Mapped[str | None] = mapped_column(Text)
    language: Mapped[str | None] = mapped_column(String(35))
    status: Mapped[UserStatus] = mapped_column(String(16), default=UserStatus.REFUSED)
    plan: Mapped[str] = mapped_column(String(32), default="standard")
    onboarding: Mapped[Onboarding] = mapped_column(String(16), default=Onboarding.NEW)
    #: What the assistant calls the person, and their IANA time zone; what they gave in our onboarding.
    call_name: Mapped[str | None] = mapped_column(Text)
    timezone: Mapped[str | None] = mapped_column(String(64))
    invite_code: Mapped[str | None] = mapped_column(String(64))
    #: When a refused person was told so: once.
    refusal_told_at: Mapped[float | None]
    created_at: Mapped[float]
    last_message_at: Mapped[float | None]


class Invite(Base):
    """A code that admits up to `uses_left` more people."""

    __tablename__ = "invites"

    code: Mapped[str] = mapped_column(String(64), primary_key=True)
    uses_left: Mapped[int]
    created_at: Mapped[float]
    expires_at: Mapped[float | None]


class Counter(Base):
    """A number that a cap bounds, changed by single conditional UPDATEs; `admitted` counts people with an instance."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int] = mapped_column(default=0)


class InboxStatus(StrEnum):
    """What became of an update."""

    PENDING = "pending"
    DELIVERED = "delivered"  #: the instance answered with the `durable` header
    HANDLED = "handled"  #: by Zaki itself: commands, refusals, buttons
    EXPIRED = "expired"


class Recipient(StrEnum):
    """Who an update is for."""

    ZAKI = "zaki"  #: our commands, our buttons, answers to our questions, block and unblock
    INSTANCE = "instance"
    NOBODY = "nobody"  #: groups, channels, and kinds that a private assistant has no use for


class InboxUpdate(Base):
    """An update as Telegram sent it; its body is emptied once it is delivered or handled."""

    __tablename__ = "inbox"
    __table_args__ = (
        Index(
            "inbox_pending",
            "telegram_id",
            "update_id",
            sqlite_where=text("status = 'pending'"),
            postgresql_where=text("status = 'pending'"),
        ),
        Index("inbox_received", "received_at"),
    )

    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    update_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    #: Whose queue it stands in: the sender's id.
    telegram_id: Mapped[int] = mapped_column(BigInteger)
    #: The update's one payload field, for example `message`.
    kind: Mapped[str] = mapped_column(String(64))
    recipient: Mapped[Recipient] = mapped_column(String(16))
    body: Mapped[bytes]
    status: Mapped[InboxStatus] = mapped_column(String(16), default=InboxStatus.PENDING)
    received_at: Mapped[float]
    expires_at: Mapped[float]
    settled_at: Mapped[float | None]
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[float] = mapped_column(default=0.0)
    last_error: Mapped[str | None] = mapped_column(Text)


class Wanted(StrEnum):
    """What the front may wish of a person's instance."""

    AWAKE = "awake"
    STOPPED = "stopped"
    ABSENT = "absent"


class Wish(Base):
    """What the front wants for a user; the provisioner takes it as untrusted input.

    Each person with a place has a wish, from admission until their data is deleted: `absent` is a deletion under way.
    `generation` grows with each change of mind; the provisioner notes in the instance's row which one it has met.
    """

    __tablename__ = "wishes"
    __table_args__ = (
        Index(
            "wishes_absent",
            "user_id",
            sqlite_where=text("wanted = 'absent'"),
            postgresql_where=text("wanted = 'absent'"),
        ),
    )

    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    wanted: Mapped[Wanted] = mapped_column(String(16))
    plan: Mapped[str] = mapped_column(String(32), default="standard")
    generation: Mapped[int] = mapped_column(default=1)
    asked_at: Mapped[float]
    #: The person asked that it stays awake until then; None: they did not.
    awake_until: Mapped[float | None]


class Waiting(Base):
    """A person whose instance is not up, and what they were told of it; the row goes when it is up."""

    __tablename__ = "waiting"

    telegram_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    since: Mapped[float]
    #: The instance is being made, not only started: the person is shown each stage.
    setup: Mapped[bool]
    #: The outbox's row with the message that is edited as stages pass; None: nothing was said yet.
    outbox_id: Mapped[int | None] = mapped_column(BigInteger)
    #: Which notice that message shows.
    shown: Mapped[str | None] = mapped_column(String(16))


class ContainerState(StrEnum):
    """A container as the provisioner last saw it."""

    NONE = "none"
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"


class Instance(Base):
    """One person's OpenClaw: the provisioner's record of what it made and last saw."""

    __tablename__ = "instances"
    __table_args__ = (Index("instances_look", "next_look_at"),)

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    #: None: not claimed by anybody.
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), unique=True)
    plan: Mapped[str] = mapped_column(String(32))
    address: Mapped[str | None] = mapped_column(String(45), unique=True)
    node: Mapped[str] = mapped_column(String(64), default="local")
    image: Mapped[str] = mapped_column(Text)
    credentials_epoch: Mapped[int] = mapped_column(default=1)
    #: Hash of the spec that the stack was last brought to, and of the configuration that the gateway has.
    declared_hash: Mapped[str | None] = mapped_column(String(64))
    config_hash: Mapped[str | None] = mapped_column(String(64))
    #: The generation of the wish that was met last.
    met_generation: Mapped[int] = mapped_column(default=0)
    container: Mapped[ContainerState] = mapped_column(String(16), default=ContainerState.NONE)
    #: Since when `/readyz` has answered ready; None: not ready.
    ready_at: Mapped[float | None]
    #: Set: the router delivers nothing (taken before a suspend).
    fenced_at: Mapped[float | None]
    #: The gateway's own number of the suspension that it is in; None: it is in none.
    suspension_id: Mapped[str | None] = mapped_column(String(128))
    #: Since when it rests on purpose, whether asleep, stopped or archived; None: it should be awake.
    resting_since: Mapped[float | None]
    #: When it must be awake for its next scheduled job, as it said before it fell asleep; None: for none.
    next_job_at: Mapped[float | None]
    #: Its person's jobs as they stood then: `[{"id", "name", "due_at"}]`; None: not known, or told and over.
    jobs: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON)
    #: The snapshot that holds its files while it has no volume; None: they are in the volume.
    archive: Mapped[str | None] = mapped_column(String(64))
    #: When its person was told that it is going to rest for long; None: not since it was awake last.
    rest_told_at: Mapped[float | None]
    #: When it had its first turn ahead of its person, as one of the warm pool; None: not yet, or it never was one.
    warmed_at: Mapped[float | None]
    #: One sentence why it cannot run; None: nothing is wrong.
    failure: Mapped[str | None] = mapped_column(Text)
    repairs: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_until: Mapped[float] = mapped_column(default=0.0)
    #: When the provisioner looks at it next without being asked; None: only when asked.
    next_look_at: Mapped[float | None]
    created_at: Mapped[float]


class Address(Base):
    """An address of the bridge's subnet that is or was given to an instance; a released one rests for a day."""

    __tablename__ = "addresses"

    address: Mapped[str] = mapped_column(String(45), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, unique=True)
    instance_id: Mapped[str | None] = mapped_column(String(12), unique=True)
    released_at: Mapped[float | None]


class OperationKind(StrEnum):
    """What the provisioner does to an instance; the state is derived from the open one."""

    CREATE = "create"
    WAKE = "wake"
    SLEEP = "sleep"
    STOP = "stop"
    ARCHIVE = "archive"
    RESTORE = "restore"
    RESTART = "restart"
    WARM = "warm"
    REPAIR = "repair"
    UPDATE = "update"
    DELETE = "delete"


class Operation(Base):
    """A change under way or done; at most one is open for an instance."""

    __tablename__ = "operations"
    __table_args__ = (
        Index(
            "operations_one_open",
            "instance_id",
            unique=True,
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
        Index("operations_of_instance", "instance_id", "id"),
    )

    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    instance_id: Mapped[str] = mapped_column(String(12))
    kind: Mapped[OperationKind] = mapped_column(String(16))
    stage: Mapped[str] = mapped_column(String(32), default="")
    started_at: Mapped[float]
    finished_at: Mapped[float | None]
    error: Mapped[str | None] = mapped_column(Text)


#: The action of a decision to do nothing yet, because something else has to happen first.
WAIT = "wait"


class Decision(Base):
    """Why the provisioner did something to an instance, or why it did not; only the latest few are kept.

    The same decision for the same reason again only counts up.
    """

    __tablename__ = "decisions"
    __table_args__ = (Index("decisions_of_instance", "instance_id", "id"),)

    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    instance_id: Mapped[str] = mapped_column(String(12))
    #: When it was decided first, and last.
    first_at: Mapped[float]
    at: Mapped[float]
    times: Mapped[int] = mapped_column(default=1)
    #: What was decided, for example `sleep`, or :data:`WAIT`.
    action: Mapped[str] = mapped_column(String(16))
    #: One sentence.
    reason: Mapped[str] = mapped_column(Text)


class News(StrEnum):
    """What the provisioner has to tell a person."""

    LONG_SLEEP = "long_sleep"  #: `{"rest": "stopped" or "archived", "at": Unix time}`
    LATE_JOB = "late_job"  #: `{"name": str, "due_at": Unix time}`
    DELETED = "deleted"  #: `{"removed": [one line each]}`


class Announcement(Base):
    """Something that the provisioner found out and the front tells the person, once."""

    __tablename__ = "announcements"
    __table_args__ = (
        Index(
            "announcements_untold",
            "id",
            sqlite_where=text("told_at IS NULL"),
            postgresql_where=text("told_at IS NULL"),
        ),
        Index("announcements_of_person", "telegram_id"),
    )

    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    telegram_id: Mapped[int] = mapped_column(BigInteger)
    news: Mapped[News] = mapped_column(String(16))
    detail: Mapped[dict[str, Any]]
    created_at: Mapped[float]
    told_at: Mapped[float | None]


class OutboxStatus(StrEnum):
    """Where a message on its way to Telegram stands."""

    PENDING = "pending"
    SENDING = "sending"  #: handed to Telegram, no answer yet; after a crash this is `uncertain`
    SENT = "sent"
    FAILED = "failed"  #: Telegram refused it for good
    UNCERTAIN = "uncertain"  #: cut off in flight; sent once more with a mark


class OutboxMessage(Base):
    """A Bot API call that must reach Telegram; what it says is gone once it is finished."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index(
            "outbox_open",
            "chat_id",
            "id",
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
        Index("outbox_of_chat", "chat_id"),
        Index(
            "outbox_finished",
            "finished_at",
            sqlite_where=text("finished_at IS NOT NULL"),
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    #: None: Zaki's own message.
    instance_id: Mapped[str | None] = mapped_column(String(12))
    chat_id: Mapped[int] = mapped_column(BigInteger)
    method: Mapped[str] = mapped_column(String(64))
    params: Mapped[dict[str, Any]]
    #: Multipart fields: `[{"field", "path" (below STATE/spool), "filename", "content_type"}]`.
    files: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON)
    status: Mapped[OutboxStatus] = mapped_column(String(16), default=OutboxStatus.PENDING)
    #: The message id that the sender was told where Telegram's was not known in time.
    provisional_id: Mapped[int | None] = mapped_column(BigInteger)
    #: The message that was made or, where the call is about one (an edit), that one.
    message_id: Mapped[int | None] = mapped_column(BigInteger)
    #: Telegram's refusal, or the ids of the messages that were made, in the Bot API's shape.
    response: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    #: Sendings that Telegram may have taken, the present one included.
    attempts: Mapped[int] = mapped_column(default=0)
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float]
    finished_at: Mapped[float | None]


class SeenFile(Base):
    """A Telegram file that appeared in a person's chat, so their instance may download it."""

    __tablename__ = "seen_files"

    telegram_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    file_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    seen_at: Mapped[float]


class Usage(Base):
    """One call to the model, written when it begins and brought up to date when it ends."""

    __tablename__ = "usage"
    __table_args__ = (Index("usage_of_instance", "instance_id", "at"),)

    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    instance_id: Mapped[str] = mapped_column(String(12))
    at: Mapped[float]
    model: Mapped[str] = mapped_column(Text)
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    #: Seconds to the first byte and to the last.
    first_byte: Mapped[float | None]
    duration: Mapped[float]
    #: The tokens are our estimate: the provider's count did not come, or the call has not ended.
    estimated: Mapped[bool] = mapped_column(default=True)
    #: The status that the instance got, 499 where it went away first; None: under way, or cut off by a crash.
    http_status: Mapped[int | None]


class UsageDay(Base):
    """Tokens of an instance on one day (UTC), for the flat daily cap."""

    __tablename__ = "usage_days"

    instance_id: Mapped[str] = mapped_column(String(12), primary_key=True)
    day: Mapped[str] = mapped_column(String(10), primary_key=True)
    tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    requests: Mapped[int] = mapped_column(default=0)
    #: When the person was told that the day's tokens are spent: once.
    spent_told_at: Mapped[float | None]


class TimelineEntry(Base):
    """What Zaki did for a person, in order: shown by the chat page, `scripts/run --say` and the benches."""

    __tablename__ = "timeline"
    __table_args__ = (Index("timeline_of_chat", "telegram_id", "id"),)

    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    at: Mapped[float]
    telegram_id: Mapped[int] = mapped_column(BigInteger)
    stage: Mapped[str] = mapped_column(String(32))
    detail: Mapped[str] = mapped_column(Text, default="")


class AuditEntry(Base):
    """Something that was refused, or done by an operator."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(_Serial, primary_key=True)
    at: Mapped[float]
    instance_id: Mapped[str | None] = mapped_column(String(12))
    action: Mapped[str] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(Text)
