"""The running product, driven with calls while everything around it fails; and what must be true
afterwards. ``make chaos`` does it for ten minutes, with a seed that it prints.

docs/how-to/survive-outages.md says what an installation survives; this shows that all of it together
loses no call, counts none twice and invents none.
"""

import os
import random
import resource
from pathlib import Path

import pytest

from tests.chaos import ALONE, CLUSTER, TIMES, Installation, Oracle, alone, cluster, drive

SEED = int(os.environ.get("XAIROUTER_TEST_SEED") or random.SystemRandom().randrange(10**6))
CLIENTS = 6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900 * TIMES),
    pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits the files of a process"),
]


async def _judge(there: Installation, oracle: Oracle, *, is_shared: bool) -> None:
    await oracle.read()
    print(len(oracle.seen), "requests seen,", oracle.answers(), flush=True)
    assert oracle.seen
    oracle.every_call_has_one_record()
    oracle.sums_are_those_of_the_records()
    await oracle.the_chain_is_whole()
    await oracle.counters_are_those_of_the_records()
    # Calls in flight when counters, instances or the right day are lost may be counted late; what is
    # counted for all time in one process' memory is not.
    late = CLIENTS * there.losses
    oracle.limits_were_kept(late, late if is_shared else 0)


async def test_one_process_on_sqlite_loses_no_call_and_invents_none(tmp_path: Path):
    print(f"XAIROUTER_TEST_SEED={SEED}", flush=True)
    async with alone(tmp_path) as there:
        load = await drive(there, ALONE, SEED, TIMES * len(ALONE), CLIENTS)
        await _judge(there, Oracle(there, load), is_shared=False)


async def test_three_instances_on_shared_servers_lose_no_call_and_invent_none(tmp_path: Path):
    print(f"XAIROUTER_TEST_SEED={SEED}", flush=True)
    async with cluster(tmp_path) as there:
        load = await drive(there, CLUSTER, SEED, TIMES * len(CLUSTER), CLIENTS)
        await _judge(there, Oracle(there, load), is_shared=True)
