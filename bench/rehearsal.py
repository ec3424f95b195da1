"""How long a rehearsal of a million recorded calls takes: ``python bench/rehearsal.py [CALLS]``.

A hundred accounts with two limits each, forty models, two thousand addresses; proposed are a list
of models, a limit and a budget for the owner.
"""

import asyncio
import json
import random
import resource
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from xairouter.clock import format_id, now_ms
from xairouter.domain.accounts import (
    Account,
    AccountStatus,
    KeyHealth,
    OwnerSettings,
    ProviderKey,
    ProviderKeyStatus,
)
from xairouter.manage.rehearse import Job, work
from xairouter.storage.database import Database

OWNER = "acc_bench"
RULES = '{"limits":{"rpm":1000,"tpd":5000000}}'
PROPOSED = {"allow_models": ["m-1*", "m-2*"], "limits": {"rpm": 3000}, "budget": {"day_usd": 500}}
COLUMNS = (
    "call_id,owner_id,account_id,key_id,dialect,method,path,client_ip,model_asked,model_used,stream,"
    "outcome,attempts,input_tokens,output_tokens,usage_source,cost_nano,started_at_ms,total_ms,status"
)


def fill(file: Path, calls: int) -> None:
    """Recorded calls of six days."""
    dice, first = random.Random(1), now_ms() - 6 * 86_400_000
    step = 6 * 86_400_000 // calls

    def rows():  # type: ignore[no-untyped-def]
        for number in range(calls):
            at = first + number * step
            model = f"m-{dice.randrange(40)}"
            account, host = dice.randrange(100), f"10.0.{dice.randrange(8)}.{dice.randrange(250)}"
            yield (
                format_id("call", at, number), OWNER, f"acc_{account}", "key", "openai_chat", "POST",
                "/v1/chat/completions", host, model, model, 0, "completed", 1, dice.randrange(5000),
                dice.randrange(900), "reported", dice.randrange(10**7), at, 800, 200,
            )  # fmt: skip

    database = sqlite3.connect(file)
    database.execute("PRAGMA synchronous = OFF")
    marks = ",".join("?" * 20)
    database.executemany(f"INSERT INTO usage_records ({COLUMNS}) VALUES ({marks})", rows())
    database.commit()
    database.close()


def key(level: int) -> ProviderKey:
    return ProviderKey(
        f"pk_{level}", OWNER, f"level {level}", "custom", {"openai_chat": "https://x.example"},
        {"openai_chat": "bearer"}, level, 1, ("m-*",), None, ProviderKeyStatus.ACTIVE, 1,
        b"", None, "", KeyHealth.OK, None, 0,
    )  # fmt: skip


async def migrate(url: str) -> None:
    database = Database(url)
    await database.migrate()
    await database.close()


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory(prefix="bench-rehearsal-") as folder:
        file = Path(folder) / "x.db"
        url = f"sqlite:///{file}"
        asyncio.run(migrate(url))
        fill(file, calls)
        owner = Account(OWNER, OWNER, None, "owner", None, AccountStatus.ACTIVE, True, 1)
        below = [
            Account(
                f"acc_{n}", OWNER, OWNER, f"a{n}", None, AccountStatus.ACTIVE, False, 1, rules=RULES
            )
            for n in range(100)
        ]
        job = Job(
            url, OWNER, OwnerSettings(), {}, (key(1), key(2)), (owner, *below), {},
            now_ms() - 7 * 86_400_000, None, (OWNER, json.dumps(PROPOSED)), None,
        )  # fmt: skip
        began, cpu = time.perf_counter(), time.process_time()
        found = work(job)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{found.calls} calls in {seconds:.1f} s ({cpu:.1f} s CPU, {memory:.0f} MB): "
        f"{found.refused} would have been refused"
    )


if __name__ == "__main__":
    main()
