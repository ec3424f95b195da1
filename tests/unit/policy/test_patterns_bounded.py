"""Proofs about rules take a bounded number of steps, whatever is asked."""

import pytest

from tests.work_counting import Work, counted
from xairouter.domain.accounts import Account
from xairouter.policy import rules as rules_module
from xairouter.policy.networks import without_inner
from xairouter.policy.patterns import PatternSet, Steps, is_within
from xairouter.policy.rules import compile_text, effective, read_rules, wider_than

FEW = 20_000
MOST_BYTECODES = 100
"""Of a step, and what is done for each rule beside the proofs."""


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "Steps", lambda: Steps(FEW))


MANY = [f"*{chr(97 + n % 26)}*{chr(97 + n // 26)}*{n}*" for n in range(101)]
HARD = "*a*b*c*d*e*f*g*h*"


def account(number: int) -> Account:
    return Account(f"acc_{number}", "acc_0", None, f"a{number}", None, "active", True, 0)


def rules(**document: object) -> str:
    import json

    return json.dumps(document)


@pytest.mark.parametrize(
    ("asked", "above"),
    [
        ([HARD], MANY),
        ([f"{n}{HARD}" for n in range(50)], MANY),
        ([f"name-{n}" for n in range(2000)], [f"*{n}*x" for n in range(1000)]),
        ([f"{n}*" for n in range(1000)], [f"*{n}*x" for n in range(1000)]),
    ],
)
def test_a_proof_takes_a_bounded_number_of_steps(asked: list[str], above: list[str]):
    work = Work()
    wanted = read_rules({"allow_models": asked})
    parent = compile_text(rules(allow_models=above))
    steps, _ = counted(work, lambda: wider_than(wanted, [(account(0), parent)]))
    assert steps < MOST_BYTECODES * (FEW + len(asked))


def test_where_the_steps_do_not_suffice_the_answer_is_no():
    both = ("a*", "*")
    assert is_within("a*b", both, Steps(2))
    assert not is_within("a*b", both, Steps(1))
    assert PatternSet(both).contains("abc", Steps(2))
    assert not PatternSet(("b*", "a*")).contains("abc", Steps(1))


def test_effective_rules_of_long_lists_take_a_bounded_number_of_steps():
    work = Work()
    documents = [
        rules(
            allow_models=[f"*{n}*" for n in range(1000)] + [f"name-{n}" for n in range(1000)],
            allow_ips=[f"10.{n // 250}.{n % 250}.0/24" for n in range(2000)],
        ),
        rules(allow_models=["*"], allow_ips=["10.0.0.0/8", "10.1.0.0/16"]),
    ]
    chain = [(account(n), compile_text(text)) for n, text in enumerate(documents)]
    steps, _ = counted(work, lambda: effective(chain))
    assert steps < MOST_BYTECODES * FEW + 1000 * 4000


def test_networks_within_others_are_left_out():
    given = [
        "10.1.0.0/16",
        "10.0.0.0/8",
        "::1/128",
        "10.1.2.3/32",
        "11.0.0.0/8",
        "::/0",
        "9.0.0.0/8",
    ]
    assert without_inner(given) == ("10.0.0.0/8", "11.0.0.0/8", "::/0", "9.0.0.0/8")
