"""How a key's health moves, and what that does to a plan."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.policy.test_routing import key
from xairouter.directory.health import Health
from xairouter.directory.retries import MOST, Retries
from xairouter.domain.accounts import KeyHealth
from xairouter.domain.calls import Plan, Refusal, Route
from xairouter.domain.failures import RETRIED, Cause, Failure
from xairouter.policy.health import TRIAL_SECONDS, awake

A, B = key("a"), key("b")
PLAN = Plan((Route(A, "m", "openai_chat"), Route(B, "m", "openai_chat")))


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def health() -> tuple[Health, Clock]:
    clock = Clock()
    return Health(monotonic=clock), clock


def names(live: Health, clock: Clock, plan: Plan = PLAN) -> list[str] | str:
    found = awake(plan, live.ailing, clock())
    return found.code if isinstance(found, Refusal) else [r.key.name for r in found.routes]


def test_a_limited_key_sleeps_for_that_model_and_wakes_by_itself():
    live, clock = health()
    live.failed(A, "m", Failure(Cause.LIMITED, 7))
    assert names(live, clock) == ["b"]
    other = Plan(tuple(Route(r.key, "n", r.dialect) for r in PLAN.routes))
    assert names(live, clock, other) == ["a", "b"]
    clock.at += 7.1
    assert names(live, clock) == ["a", "b"]


def test_a_key_out_of_credit_sleeps_for_every_model():
    live, clock = health()
    live.failed(A, "m", Failure(Cause.OUT_OF_CREDIT))
    other = Plan((Route(A, "other", "openai_chat"),))
    assert names(live, clock, other) == "all_keys_sleeping"


def test_what_would_help_nobody_to_refuse_only_moves_behind():
    for cause in (Cause.OVERLOADED, Cause.FAILED, Cause.UNREACHABLE, Cause.ABSENT):
        live, clock = health()
        live.failed(A, "m", Failure(cause))
        assert names(live, clock) == ["b", "a"]
        assert live.may_try(A, "m")


def test_a_client_s_fault_does_nothing():
    live, clock = health()
    live.failed(A, "m", Failure(Cause.CLIENT))
    assert not live.ailing
    assert names(live, clock) == ["a", "b"]


def test_a_request_too_large_for_a_key_does_nothing_to_it_and_another_key_may_be_tried():
    live, clock = health()
    live.failed(A, "m", Failure(Cause.TOO_LARGE, 7))
    assert not live.ailing
    assert names(live, clock) == ["a", "b"]
    assert Cause.TOO_LARGE in RETRIED


def test_a_request_too_large_finds_nothing_out_for_those_that_wait_for_a_key_s_trial():
    live, clock = health()
    live.failed(A, "m", Failure(Cause.OUT_OF_CREDIT, 7))
    clock.at += 7.1
    assert live.may_try(A, "m")
    assert not live.may_try(A, "m")
    live.failed(A, "m", Failure(Cause.TOO_LARGE))
    assert live.may_try(A, "m")


def test_the_refusal_says_when_the_first_key_wakes():
    live, clock = health()
    live.failed(A, "m", Failure(Cause.LIMITED, 7.2))
    live.failed(B, "m", Failure(Cause.LIMITED, 30))
    found = awake(PLAN, live.ailing, clock())
    assert isinstance(found, Refusal)
    assert (found.code, found.retry_after) == ("all_keys_sleeping", 8)


def test_when_every_key_is_rejected_the_refusal_says_that():
    live, clock = health()
    for one in (A, B):
        live.failed(one, "m", Failure(Cause.REJECTED))
    assert names(live, clock) == ["a", "b"], "what one call met is only suspected"
    assert {one.id for one in live.take_rejected()} == {A.id, B.id}
    assert live.take_rejected() == []
    assert [live.believe(one) for one in (A, B)] == [1, 1]
    assert names(live, clock) == "provider_key_rejected"
    live.refute(B)
    assert names(live, clock) == ["b"]


def test_a_suspected_key_is_tried_after_the_others_until_its_provider_was_asked():
    live, clock = health()
    live.failed(A, "m", Failure(Cause.REJECTED))
    assert names(live, clock) == ["b", "a"]
    assert live.of(A) == [], "its owner is told nothing of a suspicion"
    live.refute(A)
    assert names(live, clock) == ["a", "b"]
    live.failed(A, "m", Failure(Cause.REJECTED))
    assert live.believe(A) == 1
    assert names(live, clock) == ["b"]


def test_a_suspicion_that_nobody_looked_into_ends():
    live, clock = health()
    live.failed(A, "m", Failure(Cause.REJECTED))
    clock.at += 30.1
    assert names(live, clock) == ["a", "b"]


def test_a_key_that_is_stored_as_rejected_sleeps_at_once():
    live, clock = health()
    known = replace(A, health=KeyHealth.REJECTED)
    live.failed(known, "m", Failure(Cause.REJECTED))
    assert names(live, clock) == ["b"]
    assert live.take_rejected() == []


def test_a_suspicion_neither_shortens_nor_prolongs_what_ails_the_key():
    live, clock = health()
    live.failed(A, "m", Failure(Cause.OUT_OF_CREDIT))
    live.failed(A, "m", Failure(Cause.REJECTED))
    live.refute(A)
    assert names(live, clock) == ["b"]
    clock.at += 60.1
    assert live.may_try(A, "m")
    assert not live.may_try(A, "m")
    live.failed(A, "m", Failure(Cause.REJECTED))
    assert live.may_try(A, "m"), "the call that tried found out nothing; another one tries"


def test_after_a_sleep_one_call_tries_and_the_others_wait():
    live, clock = health()
    live.failed(A, "m", Failure(Cause.LIMITED, 5))
    assert not live.may_try(A, "m")
    clock.at += 5.1
    assert [live.may_try(A, "m") for _ in range(5)] == [True, False, False, False, False]
    assert names(live, clock) == ["b"]
    live.served(A, "m")
    assert all(live.may_try(A, "m") for _ in range(5))
    assert not live.ailing


def test_a_trial_that_never_ends_is_not_waited_for_for_ever():
    live, clock = health()
    live.failed(A, "m", Failure(Cause.LIMITED, 5))
    clock.at += 5.1
    assert live.may_try(A, "m")
    clock.at += TRIAL_SECONDS + 0.1
    assert live.may_try(A, "m")


def test_each_failed_trial_doubles_the_wait_up_to_a_bound():
    live, clock = health()
    waits = []
    for _ in range(10):
        assert live.may_try(A, "m")
        clock.at += 0.5
        live.failed(A, "m", Failure(Cause.LIMITED))
        [(_, ailment)] = live.of(A)
        waits.append(ailment.until - clock.at)
        clock.at = ailment.until + 0.01
    assert waits[:4] != sorted(waits[:4], reverse=True)
    assert waits == sorted(waits)
    assert waits[-1] == 60


def test_calls_that_fail_together_count_as_one_failure():
    live, clock = health()
    for _ in range(200):
        live.failed(A, "m", Failure(Cause.LIMITED))
    [(_, ailment)] = live.of(A)
    assert ailment.until - clock.at <= 1.01


def test_a_replaced_secret_begins_well():
    live, clock = health()
    live.believe(A)
    fresh = key("a", revision=2)
    assert live.may_try(fresh, "m")
    assert awake(Plan((Route(fresh, "m", "openai_chat"),)), live.ailing, clock()) == Plan(
        (Route(fresh, "m", "openai_chat"),)
    )
    assert live.of(fresh) == []


def test_a_key_that_has_served_nothing_for_long_is_told_of():
    live, clock = health()
    for _ in range(20):
        live.failed(A, "m", Failure(Cause.LIMITED, 60))
        assert live.long_asleep(600) == [] or clock.at >= 1600
        clock.at += 0.01
        clock.at += 61
    live.failed(A, "m", Failure(Cause.LIMITED, 60))
    [(owner_id, key_id, ailment)] = live.long_asleep(600)
    assert (owner_id, key_id) == (A.owner_id, A.id)
    assert clock.at - ailment.since >= 600
    live.told(A.id)
    assert live.long_asleep(600) == []
    live.served(A, "m")
    assert not live.ailing


def test_invented_names_fill_no_memory():
    live, _ = health()
    for number in range(5000):
        live.failed(A, f"m{number}", Failure(Cause.ABSENT))
    assert len(live.ailing[A.id]) <= 200


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from(["served", Cause.LIMITED, Cause.FAILED, Cause.REJECTED]),
        ),
        max_size=60,
    )
)
def test_a_plan_loses_no_key_but_those_that_sleep(events):
    live, clock = health()
    keys = {"a": A, "b": B}
    for name, event in events:
        clock.at += 0.3
        if event == "served":
            live.served(keys[name], "m")
        elif event == Cause.REJECTED:
            live.believe(keys[name])
        else:
            live.failed(keys[name], "m", Failure(event))
    found = names(live, clock)
    asleep = {one.name for one in (A, B) if any(a.sleeps for _, a in live.of(one))}
    if len(asleep) == 2:
        assert found in ("all_keys_sleeping", "provider_key_rejected")
    else:
        assert set(found) == {"a", "b"} - asleep


def test_when_everything_fails_calls_do_not_multiply():
    retries = Retries()
    attempts = 0
    for _ in range(10_000):
        retries.earn("acc")
        attempts += 1
        for _ in range(9):
            if retries.spend("acc"):
                attempts += 1
    assert attempts <= 10_000 * 1.5 + MOST
    assert retries.spend("another")
