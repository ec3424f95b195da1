"""What a call costs on disk: ``python bench/disk.py [--calls 20000]``.

Records like those of a busy team are stored through the product's own insert, 1,400 an hour as with a
million calls a month, into an SQLite database of their own. Printed are the bytes per call of each table
and index, as SQLite's ``dbstat`` counts pages, and the whole; and the records stored in a second.
"""

import argparse
import asyncio
import random
import secrets
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from xairouter.clock import fresh_id
from xairouter.domain.accounts import Account, AccountStatus
from xairouter.domain.records import Outcome, UsageRecord, UsageSource
from xairouter.ledger.drain import BATCH, objects_of
from xairouter.storage import owners, records
from xairouter.storage.database import Database

PER_HOUR = 1400
MODELS = ("gpt-5.1", "gpt-5.1-mini", "claude-sonnet-4-5-20250929", "gemini-2.5-flash")
DIALECTS = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
}
START_MS = 1_780_000_000_000


def some_records(calls: int) -> list[UsageRecord]:
    """Calls of twelve people with a key each, from their machines, to four models."""
    dice = random.Random(1)
    owner = fresh_id("acc")
    people = [(fresh_id("acc"), fresh_id("key"), f"10.0.3.{n}") for n in range(12)]
    keys = {model: fresh_id("pk") for model in MODELS}
    found = []
    for number in range(calls):
        account_id, key_id, address = dice.choice(people)
        dialect, path = dice.choice(list(DIALECTS.items()))
        model, tokens = dice.choice(MODELS), dice.randrange(200, 60_000)
        at = START_MS + number * 3_600_000 // PER_HOUR
        found.append(
            UsageRecord(
                call_id=fresh_id("call"),
                owner_id=owner,
                account_id=account_id,
                key_id=key_id,
                dialect=dialect,
                method="POST",
                path=path,
                client_ip=address,
                started_at_ms=at,
                outcome=Outcome.COMPLETED,
                provider_key_id=keys[model],
                provider="openai",
                level=1,
                model_asked=model,
                model_used=model,
                stream=True,
                max_output_tokens=8192,
                reserved_tokens=tokens + 8192,
                reserved_nano=tokens * 2500,
                status=200,
                attempts=1,
                input_tokens=tokens,
                cached_input_tokens=tokens // 2,
                output_tokens=tokens // 20,
                reasoning_tokens=tokens // 50,
                usage_source=UsageSource.REPORTED,
                cost_nano=tokens * 1500,
                price_version="2026-11-20",
                price_used={"input": 1250, "cached_input": 125, "output": 10_000},
                provider_request_id="req_" + secrets.token_hex(16),
                provider_object_id="chatcmpl-" + secrets.token_hex(15),
                service_tier="default",
                first_byte_ms=dice.randrange(300, 3000),
                total_ms=dice.randrange(3000, 60_000),
                counted_tokens=tokens + tokens // 20,
                counted_nano=tokens * 1500,
            )
        )
    return found


async def fill(database: Database, some: list[UsageRecord]) -> float:
    """Store the records as the drain does; how many seconds that took."""
    owner = some[0].owner_id
    async with database.write() as connection:
        account = Account(owner, owner, None, "acme", None, AccountStatus.ACTIVE, True, 1)
        await owners.add_owner(connection, account, seen_by_operator=False)
    began = time.perf_counter()
    for start in range(0, len(some), BATCH):
        batch = some[start : start + BATCH]
        async with database.write() as connection:
            await records.insert_all(connection, batch, objects_of(batch), secrets.token_bytes)
    return time.perf_counter() - began


def sizes(file: Path) -> list[tuple[str, int, int]]:
    """(table or index, bytes of its pages, bytes in use), the largest first."""
    with sqlite3.connect(file) as connection:
        query = "SELECT name, sum(pgsize), sum(payload) FROM dbstat GROUP BY name ORDER BY 2 DESC"
        return list(connection.execute(query))


async def measure(folder: Path, calls: int) -> dict[str, Any]:
    """Bytes per call by table and index, their sum, and records a second."""
    file = folder / "disk.db"
    database = Database(f"sqlite:///{file}")
    await database.migrate()
    empty = {name: size for name, size, _ in sizes(file)}
    seconds = await fill(database, some_records(calls))
    await database.close()
    grown = {name: (size - empty.get(name, 0)) / calls for name, size, _ in sizes(file)}
    return {"bytes": grown, "whole": sum(grown.values()), "per_second": calls / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory(prefix="xairouter-disk-") as folder:
        found = asyncio.run(measure(Path(folder), calls))
    for name, size in found["bytes"].items():
        if size >= 0.05:
            print(f"{name:45} {size:8.1f}")
    print(f"{'bytes per call':45} {found['whole']:8.1f}")
    print(f"{'records a second':45} {found['per_second']:8.0f}")


if __name__ == "__main__":
    main()
