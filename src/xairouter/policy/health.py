"""How well a provider key serves, as a value; and how that moves with each success and failure.

What a failure does follows its cause. A limited key sleeps for that model; a key without credit
sleeps as a whole; an overloaded model, a failing or unreachable provider only moves behind the
owner's other keys, for refusing its calls would help nobody; a client's fault does nothing.
When a sleep is over, one call tries; the others wait for what it finds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil

from xairouter.domain.calls import Plan, Refusal, Route
from xairouter.domain.failures import Cause, Failure
from xairouter.errors import ErrorCode
from xairouter.policy.failures import LONGEST_WAIT

EVERY_MODEL = ""
"""Stands for the whole key in place of a model's name."""

TRIAL_SECONDS = 30.0
"""How long the others wait for the one call that tries a key after its sleep."""


@dataclass(frozen=True, slots=True)
class _Effect:
    """What a cause does: whether the key as a whole or one model, whether calls are kept away or
    only moved behind others, the first wait and the longest one in seconds (doubled each time)."""

    whole_key: bool
    sleeps: bool
    first: float
    longest: float


_EFFECTS = {
    Cause.REJECTED: _Effect(True, True, 30, 600),
    Cause.OUT_OF_CREDIT: _Effect(True, True, 60, LONGEST_WAIT),
    Cause.LIMITED: _Effect(False, True, 1, 60),
    Cause.OVERLOADED: _Effect(False, False, 2, 60),
    Cause.FAILED: _Effect(False, False, 2, 60),
    Cause.UNREACHABLE: _Effect(True, False, 2, 60),
    Cause.ABSENT: _Effect(False, False, 60, 600),
}


@dataclass(frozen=True, slots=True)
class Ailment:
    """A key, or one model of it, that failed and has not served since.

    ``until`` and ``since`` are seconds of a monotonic clock; ``count`` failures in a row;
    ``revision`` is the key's, so that a replaced secret begins well.
    """

    cause: Cause
    sleeps: bool
    until: float
    since: float
    count: int
    revision: int
    is_on_trial: bool = False

    def keeps_away(self, now: float) -> bool:
        """Whether calls are refused rather than sent."""
        return self.sleeps and now < self.until

    def moves_behind(self, now: float) -> bool:
        """Whether other keys are tried first."""
        return now < self.until


def scope_of(failure: Failure, model: str | None) -> str | None:
    """What a failure concerns: a model's name, ``EVERY_MODEL``, or None if nothing of the key."""
    effect = _EFFECTS.get(failure.cause)
    if effect is None:
        return None
    return EVERY_MODEL if effect.whole_key or model is None else model


def worse(before: Ailment | None, failure: Failure, revision: int, now: float) -> Ailment:
    """The ailment after one more failure; the provider's own wait goes before ours."""
    effect = _EFFECTS[failure.cause]
    is_same = before is not None and before.revision == revision
    # Calls that were under way together fail together: that is one failure, not many.
    together = (
        is_same and before is not None and before.moves_behind(now) and not before.is_on_trial
    )
    count = 1
    since = now
    if is_same and before is not None:
        count = before.count if together else before.count + 1
        since = before.since
    wait = failure.wait
    if wait is None:
        wait = min(effect.first * 2 ** min(count - 1, 16), effect.longest)
    until = now + max(wait, 0.05)
    if together and before is not None:
        until = max(until, before.until)
    return Ailment(failure.cause, effect.sleeps, until, since, count, revision)


def suspicion(revision: int, now: float) -> Ailment:
    """A key that was rejected once, until somebody has asked its provider: behind others, not asleep."""
    return Ailment(Cause.REJECTED, False, now + TRIAL_SECONDS, now, 1, revision)


def on_trial(ailment: Ailment, now: float) -> Ailment:
    """The ailment while one call finds out whether it is over."""
    return replace(ailment, until=now + TRIAL_SECONDS, is_on_trial=True)


def awake(plan: Plan, ailments: Mapping[str, Mapping[str, Ailment]], now: float) -> Plan | Refusal:
    """The plan without routes whose keys sleep, ailing ones behind the others; the order is kept
    otherwise. A refusal where every key sleeps."""
    if not any(route.key.id in ailments for route in plan.routes):
        return plan
    well: list[Route] = []
    behind: list[Route] = []
    asleep: list[Ailment] = []
    for route in plan.routes:
        ailing = _worst(route, ailments, now)
        if ailing is None:
            well.append(route)
        elif ailing.keeps_away(now):
            asleep.append(ailing)
        else:
            behind.append(route)
    if well or behind:
        return Plan((*well, *behind))
    return sleeping(asleep, now)


def _worst(
    route: Route, ailments: Mapping[str, Mapping[str, Ailment]], now: float
) -> Ailment | None:
    scopes = ailments.get(route.key.id)
    if scopes is None:
        return None
    found = [
        ailment
        for scope in (EVERY_MODEL, route.model or EVERY_MODEL)
        if (ailment := scopes.get(scope)) is not None
        and ailment.revision == route.key.revision
        and ailment.moves_behind(now)
    ]
    return max(found, key=lambda one: (one.sleeps, one.until), default=None)


def sleeping(asleep: list[Ailment], now: float) -> Refusal:
    """Every key for a call is kept away: until when, and why."""
    if all(ailment.cause == Cause.REJECTED for ailment in asleep):
        return Refusal(
            ErrorCode.PROVIDER_KEY_REJECTED,
            "The provider rejected every provider key for this; their owner should test and "
            "replace them.",
        )
    soonest = min(asleep, key=lambda one: one.until)
    wait = max(1, ceil(soonest.until - now))
    words = {
        Cause.OUT_OF_CREDIT: "the account at the provider is out of credit",
        Cause.LIMITED: "the provider asked to be left alone",
    }
    why = words.get(soonest.cause, "the provider rejected the key")
    return Refusal(
        ErrorCode.ALL_KEYS_SLEEPING,
        f"Every provider key for this sleeps: {why}; the next one wakes in {wait} s.",
        retry_after=wait,
    )
