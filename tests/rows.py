"""A table of cases as one test: where a case takes less than what a test of its own costs."""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any


def for_each(
    names: str | tuple[str, ...], rows: Iterable[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Call the test with each row in turn, as ``pytest.mark.parametrize`` would; name every row that fails.

    The rows share the test's fixtures, so they stand where a row leaves nothing to the next.
    """
    wanted = (names,) if isinstance(names, str) else names
    cases = [(row,) if isinstance(names, str) else tuple(row) for row in rows]
    assert cases, "no row, no test"
    assert all(len(case) == len(wanted) for case in cases), "a row has a value for each name"

    def over(test: Callable[..., None]) -> Callable[..., None]:
        assert not inspect.iscoroutinefunction(test)

        @wraps(test)
        def every(**fixtures: Any) -> None:
            failed: list[Exception] = []
            for case in cases:
                row = dict(zip(wanted, case, strict=True))
                try:
                    test(**fixtures, **row)
                except Exception as error:
                    error.add_note(f"in the row {row!r:.500}")
                    failed.append(error)
            if failed:
                raise ExceptionGroup(f"{len(failed)} of {len(cases)} rows fail", failed)

        known = inspect.signature(test)
        left = [one for name, one in known.parameters.items() if name not in wanted]
        assert len(left) == len(known.parameters) - len(wanted), "each name is an argument"
        every.__signature__ = known.replace(parameters=left)  # type: ignore[attr-defined]
        return every

    return over
