"""When the wall clock may be believed for what cannot be undone."""

import pytest

from xairouter.manage.sureness import DAY_SECONDS, HOUR_SECONDS, Sureness

DAY, HOUR, MINUTE = 86_400, 3600, 60
JUMPS = [-DAY, -HOUR, -2 * MINUTE, 2 * MINUTE, HOUR, 2 * HOUR, DAY, 2 * DAY, 5 * DAY, 30 * DAY]
JUMPS += [400 * DAY, 3652 * DAY]
BEGAN_MS = 1_800_000_000_000


def _running(hours: float = 48) -> tuple[Sureness, float]:
    """A router that has run for long on a right clock."""
    sureness = Sureness()
    sureness.look(BEGAN_MS, 1000.0)
    sureness.compare(BEGAN_MS, BEGAN_MS - DAY * 1000)
    return sureness, 1000.0 + hours * HOUR


@pytest.mark.parametrize("jump", JUMPS)
def test_no_jump_of_the_clock_is_believed_at_once_nor_within_an_hour(jump: int):
    sureness, seconds = _running()
    wall = BEGAN_MS + 48 * HOUR * 1000
    assert sureness.look(wall, seconds) is None
    assert sureness.doubt(seconds) is None
    assert sureness.look(wall + jump * 1000, seconds) == pytest.approx(jump)
    # Records made since then by the wrong clock say nothing: only those of the day before count.
    sureness.compare(wall + jump * 1000, wall if jump > DAY else wall - DAY * 1000)
    wait = HOUR_SECONDS if abs(jump) <= HOUR else DAY_SECONDS
    doubt = sureness.doubt(seconds + wait - 1)
    assert doubt is not None
    assert doubt.why == f"the clock jumped by {jump} s"
    assert sureness.doubt(seconds + wait) is None
    # When it comes back that is a jump, too.
    seconds += 45
    assert sureness.look(wall + 45_000, seconds) == pytest.approx(-jump)
    assert sureness.doubt(seconds + HOUR_SECONDS - 1) is not None


@pytest.mark.parametrize("ahead", [0, 5 * DAY, 30 * DAY, 400 * DAY, 3652 * DAY])
def test_a_clock_that_is_wrong_from_the_start_is_believed_after_a_day(ahead: int):
    sureness = Sureness()
    assert sureness.doubt(1000.0) is not None
    wall = BEGAN_MS + ahead * 1000
    sureness.look(wall, 1000.0)
    sureness.compare(wall, BEGAN_MS - DAY * 1000)
    wait = DAY_SECONDS if ahead else HOUR_SECONDS
    assert sureness.doubt(1000.0 + wait - 1) is not None
    assert sureness.doubt(1000.0 + wait) is None


def test_without_records_to_compare_with_it_takes_a_day():
    sureness = Sureness()
    sureness.look(BEGAN_MS, 1000.0)
    sureness.compare(BEGAN_MS, None)
    assert sureness.doubt(1000.0 + DAY_SECONDS - 1) is not None
    assert sureness.doubt(1000.0 + DAY_SECONDS) is None


def test_a_clock_that_is_set_right_slowly_has_not_jumped():
    sureness, _ = _running(0)
    for hour in range(200):
        # 500 millionths is what the kernel does at most.
        slew = hour * HOUR * 500 // 1000
        assert sureness.look(BEGAN_MS + hour * HOUR * 1000 + slew, 1000.0 + hour * HOUR) is None
    assert sureness.doubt(1000.0 + 200 * HOUR) is None


def test_a_clock_that_creeps_away_has_jumped():
    sureness, _ = _running(0)
    looks = [
        sureness.look(BEGAN_MS + turn * (20 + 30) * 1000, 1000.0 + turn * 20) for turn in range(10)
    ]
    assert [step for step in looks if step is not None] == [90, 90, 90]
    assert sureness.doubt(1000.0 + 10 * 20) is not None
