"""However rules are cut up, a bounded number of limits counts one call."""

from typing import Any

import pytest

from xairouter.domain.accounts import Account, AccountStatus
from xairouter.errors import ManageError
from xairouter.manage.rules import MOST_AT_ONCE, checked, refuse_wider, stored_text


def some(count: int, *, star: str = "*") -> dict[str, Any]:
    """Model limits that could all count one call, ``count`` in all."""
    return {f"m{number}{star}": {"rpm": 1, "tpd": 1} for number in range(count // 2)}


def above(*rules: dict[str, Any]) -> list[Account]:
    return [
        Account(
            f"acc_{number}",
            "acc_0",
            None if number == 0 else f"acc_{number - 1}",
            "one",
            None,
            AccountStatus.ACTIVE,
            True,
            1,
            rules=stored_text(checked(one)),
        )
        for number, one in enumerate(rules)
    ]


HALF = MOST_AT_ONCE // 2


def test_as_many_limits_as_may_count_one_call_pass_and_one_more_does_not():
    path = above({"model_limits": some(HALF - 2), "budget": {"day_usd": 1}, "limits": {"rpm": 1}})
    refuse_wider(checked({"model_limits": some(HALF)}), path)
    with pytest.raises(ManageError, match=f"at most {MOST_AT_ONCE} may") as refused:
        refuse_wider(checked({"model_limits": some(HALF), "limits": {"rpm": 1}}), path)
    assert refused.value.fields
    refuse_wider(checked({}), above({"model_limits": some(HALF)}, {"model_limits": some(HALF)}))


def test_exact_names_count_one_call_by_one_of_them():
    refuse_wider(checked({"model_limits": some(400, star="")}), above({}, {"limits": {"rpm": 1}}))
