"""A provider that closes a kept connection just as it is used again costs no call, and is counted."""

from tests.rig import SECRET, Rig


class _Once(dict[str, str]):
    """A fault that is met once."""

    def get(self, secret: str, default: str | None = None) -> str | None:  # type: ignore[override]
        return self.pop(secret, default)


async def test_a_stale_connection_is_one_more_attempt_of_the_same_call(rig: Rig):
    await rig.add_provider_key()
    assert (await rig.chat()).status == 200
    rig.standin.failing = _Once({SECRET: "fault-reset-before"})
    answer = await rig.chat()
    assert (answer.status, answer.headers["x-xairouter-attempts"]) == (200, "2")
    records = await rig.records(expect=2)
    assert [record["attempts"] for record in records] == [2, 1]
    assert len(rig.standin.requests) == 3
    assert rig.standin.connections == 2


async def test_a_provider_that_always_hangs_up_is_asked_twice_and_then_the_next_key(rig: Rig):
    await rig.add_provider_key()
    assert (await rig.chat()).status == 200
    await rig.add_provider_key(name="other", secret=SECRET + "-other", level=2)
    await rig.ask("PUT", "/api/v1/routing", {"switch_over": {"1": [2]}})
    rig.standin.failing = {SECRET: "fault-reset-before"}
    answer = await rig.chat()
    assert (answer.status, answer.headers["x-xairouter-attempts"]) == (200, "3"), answer.body
    asked = [received.secret for received in rig.standin.requests]
    assert asked == [SECRET, SECRET, SECRET, SECRET + "-other"]
