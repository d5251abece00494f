"""What to do about one instance: decided from its row, its person's wish and what is observed, by one pure function.

Whatever is decided is carried out by :mod:`bot.provisioner.reconcile`, after which it is decided again; so a decision
never depends on what was begun before, only on what there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from bot.store.tables import ContainerState, Instance, UserStatus, Wanted, Wish
from bot.users.plans import Plan

#: Seconds after which an instance is looked at again even where nothing is expected, so that drift is found.
LOOK_ANYWAY = 3600.0
#: Seconds after which one that has a message on its way is looked at again.
LOOK_PENDING = 30.0
#: Seconds without anything to do after which one falls asleep that nobody wrote to; a late job begins within three
#: minutes of a start.
UNASKED_IDLE = 240.0
#: Seconds without anything to do before one that is not as declared is made so, which starts it anew.
MEND_IDLE = 60.0
#: Seconds between the notice of a long sleep and the sleep.
NOTICE = 6 * 3600.0
#: Probes in a row that a gateway may leave unanswered.
PROBES_MISSED = 3
#: Seconds of readiness before which missed probes are of the process before.
PROBES_AFTER = 60.0
#: Part of its memory and swap limit above which a gateway is started anew once it is idle: OpenClaw itself takes half
#: of the memory, so the rest is a leak, or was needed once.
LEAK = 0.85

_UNWANTED: dict[UserStatus | None, str] = {
    UserStatus.SUSPENDED: "Its person is suspended.",
    UserStatus.BLOCKED: "Its person has blocked the bot.",
}


class Action(StrEnum):
    """What is done next."""

    NOTHING = "nothing"
    WAKE = "wake"  #: bring it up from whatever it is, and bring what is declared and configured in line
    SLEEP = "sleep"
    STOP = "stop"
    TELL = "tell"  #: its person that it is going to rest for long
    ARCHIVE = "archive"
    WARM = "warm"  #: make a member of the pool, up to its first turn
    RESTART = "restart"
    DELETE = "delete"


@dataclass(frozen=True)
class Request:
    """What somebody asks for beyond the rules: the operator, a short memory, a silent gateway."""

    action: Action
    #: One sentence.
    reason: str


@dataclass(frozen=True)
class Facts:
    """All that a decision depends on; times are Unix times."""

    now: float
    instance: Instance
    #: None: nobody's, a member of the warm pool.
    wish: Wish | None
    plan: Plan
    #: What Docker says; NONE: there is no container.
    container: ContainerState
    #: What may happen to its person's messages; None: it is nobody's.
    person: UserStatus | None = None
    #: Updates wait for it.
    pending: bool = False
    #: When its person wrote last, and when it asked the model last.
    last_word: float | None = None
    last_turn: float | None = None
    #: Its person asked that it stays awake until then; None: they did not, or it is over.
    awake_until: float | None = None
    #: When it must be woken for its next job; None: it has none.
    wake_at: float | None = None
    #: Bytes in memory and swap, and the limit of the two; zero: not looked at.
    memory: int = 0
    memory_limit: int = 0
    #: Why the machine has no room for a sleeper; None: it has.
    no_room: str | None = None
    #: What of it was changed by hand; None: nothing.
    drift: str | None = None
    #: Probes in a row that it left unanswered.
    missed: int = 0
    request: Request | None = None

    @property
    def up(self) -> bool:
        """Whether it takes messages."""
        instance = self.instance
        running = self.container is ContainerState.RUNNING and instance.ready_at is not None
        return running and instance.fenced_at is None and instance.resting_since is None


@dataclass(frozen=True)
class Decision:
    """An action, one sentence why, and when to look again where nothing is to be done."""

    action: Action
    reason: str
    look_at: float | None = None
    #: Whatever the gateway says that it has to do.
    force: bool = False
    #: Not before the gateway says that it has nothing to do.
    gentle: bool = False


def decide(facts: Facts) -> Decision:
    """What is done about the instance now."""
    if facts.wish is None and facts.instance.user_id is not None:
        return _nothing(facts, "Its person has no wish: their deletion ended while it was given to them.")
    if facts.wish is None and facts.request is not None and facts.request.action is Action.DELETE:
        return Decision(Action.DELETE, facts.request.reason)
    if facts.wish is None:
        return _member(facts)
    match facts.wish.wanted:
        case Wanted.ABSENT:
            return Decision(Action.DELETE, "Its person's data is being deleted.")
        case Wanted.STOPPED:
            return _unwanted(facts)
    return _needed(facts, facts.wish) or (_awake(facts) if facts.up else _resting(facts))


def _member(facts: Facts) -> Decision:
    """One of the warm pool: warmed once, then asleep until somebody comes."""
    instance = facts.instance
    if instance.failure is not None:
        return Decision(Action.DELETE, instance.failure)
    if instance.warmed_at is None:
        return Decision(Action.WARM, "The pool needs one more that is ready for somebody new.")
    if facts.container is ContainerState.PAUSED:
        return _nothing(facts, "It waits for somebody new.")
    if facts.container is ContainerState.RUNNING and instance.resting_since is None:
        return Decision(Action.SLEEP, "It is warm and waits for somebody new.", force=True)
    return Decision(Action.DELETE, "It is not warm any more.")


def _unwanted(facts: Facts) -> Decision:
    reason = _UNWANTED.get(facts.person, "It is to rest until its person writes.")
    if facts.container in (ContainerState.RUNNING, ContainerState.PAUSED):
        return Decision(Action.STOP, reason)
    return _nothing(facts, reason)


def _needed(facts: Facts, wish: Wish) -> Decision | None:
    """Why it has to be up now, or started anew; None: for no reason."""
    instance, request = facts.instance, facts.request
    asked = wish.generation > instance.met_generation
    if request is not None and request.action in (Action.WAKE, Action.RESTART):
        return Decision(request.action, request.reason)
    if asked:
        return Decision(Action.WAKE, "Somebody asked for it." if not facts.pending else "A message waits for it.")
    if instance.failure is not None:
        return _nothing(facts, instance.failure)
    # One at rest is mended by its next wake, which makes all of it as declared; one at work is not disturbed.
    rests = instance.resting_since is not None and facts.container is not ContainerState.RUNNING
    at_work = facts.up and _active(facts) > facts.now - MEND_IDLE
    if facts.drift is not None and not rests and not at_work:
        return Decision(Action.WAKE, f"It is not as declared: {facts.drift}")
    if facts.up:
        if facts.missed >= PROBES_MISSED and facts.now - (instance.ready_at or 0.0) > PROBES_AFTER:
            return Decision(Action.RESTART, f"It left {facts.missed} probes in a row unanswered.")
        return None
    if facts.pending:
        return Decision(Action.WAKE, "A message waits for it.")
    if facts.awake_until is not None and instance.resting_since is None:
        # One that was put to sleep all the same, because others needed the memory, waits for a message.
        return Decision(Action.WAKE, f"Its person asked that it stays awake until {_clock(facts.awake_until)}.")
    if facts.wake_at is not None and facts.wake_at <= facts.now:
        return Decision(Action.WAKE, f"Its job is due at {_clock(instance.next_job_at or facts.wake_at)}.")
    if instance.resting_since is None:
        return Decision(Action.WAKE, f"It should be awake, and is {_seen(facts)}.")
    if facts.container is ContainerState.RUNNING:
        return Decision(Action.WAKE, "It should rest, and runs: somebody started it by hand, or a crash cut in.")
    if facts.container is ContainerState.PAUSED and instance.archive is not None:
        return Decision(Action.WAKE, "It should be archived, and is asleep: the database is older than what there is.")
    return None


def _awake(facts: Facts) -> Decision:
    """When an instance that is up falls asleep."""
    instance, now, plan = facts.instance, facts.now, facts.plan
    ready_at = instance.ready_at or now
    word = max(ready_at, _past(facts.last_word, now))
    active = _active(facts)
    # Nobody wrote to it before it woke, so it woke for a job, or because it was awake before a crash.
    idle = plan.idle if _past(facts.last_word, now) > ready_at - plan.idle else min(plan.idle, UNASKED_IDLE)
    if facts.request is not None and facts.request.action is Action.SLEEP:
        if facts.pending:
            return _nothing(facts, "A message waits for it, so it stays awake.")
        return _rest(facts, facts.request.reason, force=False)
    if facts.awake_until is not None:
        return _nothing(facts, f"Its person asked that it stays awake until {_clock(facts.awake_until)}.")
    sleeps_at = min(active + idle, word + max(plan.awake, plan.idle))
    if facts.pending:
        return _nothing(facts, "A message is on its way to it.", now + LOOK_PENDING)
    if now < sleeps_at:
        looks = [sleeps_at] if facts.drift is None else [sleeps_at, active + MEND_IDLE]
        return _nothing(facts, f"It is awake, and sleeps at {_clock(sleeps_at)} unless something comes.", *looks)
    if now >= word + max(plan.awake, plan.idle):
        return _rest(facts, f"Its person has been silent for {_span(now - word)}, however busy it is.", force=True)
    return _rest(facts, f"It has been idle for {_span(now - active)}.", force=False)


def _rest(facts: Facts, reason: str, *, force: bool) -> Decision:
    if facts.request is None and facts.memory_limit and facts.memory > LEAK * facts.memory_limit:
        used, limit = facts.memory // 2**20, facts.memory_limit // 2**20
        why = f"{reason} It takes {used} of its {limit} MiB, so it starts anew."
        return Decision(Action.RESTART, why, force=force, gentle=True)
    if facts.no_room is not None:
        return Decision(Action.STOP, f"{reason} {facts.no_room}", force=force)
    return Decision(Action.SLEEP, reason, force=force)


def _resting(facts: Facts) -> Decision:
    """How an instance at rest comes to rest deeper."""
    instance, now, plan = facts.instance, facts.now, facts.plan
    since = instance.resting_since if instance.resting_since is not None else now
    if instance.archive is not None:
        if facts.container is not ContainerState.NONE or instance.declared_hash is not None:
            return Decision(Action.ARCHIVE, "It is archived, and not all of it is gone yet.")
        return _nothing(facts, "It is archived until somebody writes.")
    asleep = facts.container is ContainerState.PAUSED
    deeper, after = (Action.STOP, plan.stop_after) if asleep else (Action.ARCHIVE, plan.archive_after)
    due = since + after
    told = instance.rest_told_at
    if now >= due - NOTICE and told is None:
        return Decision(Action.TELL, f"It has rested for {_span(now - since)}.")
    if now >= due and told is not None and now >= told + NOTICE:
        return Decision(deeper, f"It has rested for {_span(now - since)}.")
    state = "asleep" if asleep else "stopped"
    return _nothing(facts, f"It is {state} until somebody writes.", due - NOTICE if told is None else told + NOTICE)


def _nothing(facts: Facts, reason: str, *looks: float) -> Decision:
    """Nothing to do before the earliest of the looks, of its next job and of an hour."""
    times = [facts.now + LOOK_ANYWAY, *looks]
    if facts.wake_at is not None and facts.wake_at > facts.now and not facts.up:
        times.append(facts.wake_at)
    if facts.awake_until is not None:
        times.append(facts.awake_until)
    return Decision(Action.NOTHING, reason, max(facts.now + 1.0, min(times)))


def _active(facts: Facts) -> float:
    """When it had something to do last."""
    ready_at = facts.instance.ready_at or facts.now
    return max(ready_at, _past(facts.last_word, facts.now), _past(facts.last_turn, facts.now))


def _past(at: float | None, now: float) -> float:
    """A time, or long ago where it is not known or lies ahead: the clock may have been put back."""
    return at if at is not None and at <= now else 0.0


def _seen(facts: Facts) -> str:
    if facts.container is ContainerState.NONE:
        return "gone"
    if facts.container is ContainerState.RUNNING:
        return "not ready"
    return str(facts.container)


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _span(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 2:
        return f"{int(seconds)} seconds"
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"
