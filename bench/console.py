"""How long the console's pages take on a large installation: ``python bench/console.py [CALLS]``.

SQLite, 10,000 accounts in a tree of three levels, 1,000 provider keys, and by default 10,000,000
recorded calls of a year, spread evenly over all of them: the worst case for the roll-ups, because
nearly every call is a combination of its own. Pages are asked for over HTTP by a signed-in owner,
in another process, one after the other; the median of five is printed (of one for few calls).
"""

import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from servers import free_port
from xairouter.clock import format_id, now_ms

ACCOUNTS, KEYS, MODELS, DAYS = 10_000, 1_000, 40, 365
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
PORT = free_port()
COLUMNS = (
    "call_id,owner_id,account_id,key_id,provider_key_id,provider,level,dialect,method,path,client_ip,"
    "model_asked,model_used,stream,outcome,attempts,input_tokens,cached_input_tokens,output_tokens,"
    "usage_source,cost_nano,started_at_ms,first_byte_ms,total_ms,status"
)
SUMS = (
    "count(*), sum(attempts), sum(outcome IN ('upstream_error','interrupted')),"
    "sum(coalesce(input_tokens,0)), sum(coalesce(cached_input_tokens,0)),"
    "sum(coalesce(output_tokens,0)), 0, sum(coalesce(cost_nano,0)), 0,"
    "sum(outcome = 'refused'), 0"
)
NAMES = (
    "calls,attempts,errors,input_tokens,cached_input_tokens,output_tokens,reasoning_tokens,cost_nano,"
    "unpriced,refused,cache_write_tokens"
)
RULES = '{"limits":{"rpm":1000},"budget":{"month_usd":50}}'


def fill(file: Path, owner: str, calls: int, keys: int = KEYS) -> None:
    """Accounts, keys, calls, and the sums over them as the drain would have left them."""
    dice, now = random.Random(1), now_ms()
    database = sqlite3.connect(file)
    for pragma in ("synchronous=OFF", "journal_mode=OFF", "cache_size=-1000000", "temp_store=FILE"):
        database.execute(f"PRAGMA {pragma}")
    ids = [f"acc_{number:026}" for number in range(ACCOUNTS)]
    parents = [
        owner if n < 20 else ids[n % 20] if n < 500 else ids[20 + n % 480] for n in range(ACCOUNTS)
    ]
    database.executemany(
        "INSERT INTO accounts (id,owner_id,parent_id,name,status,can_manage,rules,created_at_ms) "
        "VALUES (?,?,?,?,'active',0,?,?)",
        [
            (ids[n], owner, parents[n], f"account {n}", RULES if n < 500 else "{}", now)
            for n in range(ACCOUNTS)
        ],
    )
    database.executemany(
        "INSERT INTO api_keys (id,owner_id,account_id,name,scope,status,created_at_ms) "
        "VALUES (?,?,?,'first','call','active',?)",
        [(f"key_{n:026}", owner, ids[n], now) for n in range(ACCOUNTS)],
    )
    models = json.dumps([f"m-{number}" for number in range(MODELS)])
    database.executemany(
        "INSERT INTO provider_keys (id,owner_id,name,provider,endpoints,auth,level,weight,models,status,"
        "revision,sealed,last4,fingerprint,health,created_at_ms) VALUES (?,?,?,'openai',"
        "'{\"openai_chat\":\"https://x.example/v1\"}','{\"openai_chat\":\"bearer\"}',?,1,?,'active',1,x'00',"
        "'abcd','f','ok',?)",
        [(f"pk_{n:026}", owner, f"key {n}", 1 + n % 4, models, now) for n in range(keys)],
    )
    first, step = now - DAYS * DAY_MS, DAYS * DAY_MS / calls
    outcomes = ["completed"] * 18 + ["refused", "upstream_error"]

    def rows():  # type: ignore[no-untyped-def]
        pick = dice.random
        for number in range(calls):
            at = int(first + number * step)
            account, model = int(pick() * ACCOUNTS), f"m-{int(pick() * MODELS)}"
            yield (
                format_id("call", at, number), owner, ids[account], f"key_{account:026}",
                f"pk_{int(pick() * keys):026}", "openai", 1, "openai_chat", "POST", "/v1/chat/completions",
                "10.0.0.1", model, model, 0, outcomes[int(pick() * 20)], 1, int(pick() * 5000), 0,
                int(pick() * 900), "reported", int(pick() * 10**7), at, 300, 900, 200,
            )  # fmt: skip

    marks = ",".join("?" * (COLUMNS.count(",") + 1))
    database.execute("DROP INDEX ix_usage_records_owner_started")
    database.execute("DROP INDEX ix_usage_records_owner_account_started")
    database.executemany(f"INSERT INTO usage_records ({COLUMNS}) VALUES ({marks})", rows())
    database.execute(
        "CREATE INDEX ix_usage_records_owner_started ON usage_records (owner_id, started_at_ms)"
    )
    database.execute(
        "CREATE INDEX ix_usage_records_owner_account_started "
        "ON usage_records (owner_id, account_id, started_at_ms)"
    )
    print("calls are in", flush=True)
    database.execute(
        f"INSERT INTO usage_hours (owner_id,hour_ms,account_id,key_id,provider_key_id,provider,model,label,"
        f"{NAMES}) SELECT owner_id, started_at_ms/{HOUR_MS}*{HOUR_MS}, account_id, key_id, provider_key_id,"
        f"provider, model_used, '', {SUMS} FROM usage_records GROUP BY 1,2,3,4,5,6,7,8"
    )
    print("hours are in", flush=True)
    values = {
        "account": "account_id", "key": "key_id", "provider_key": "provider_key_id",
        "provider": "provider", "model": "model_used", "label": "''", "all": "''",
        "hour": f"cast(started_at_ms/{HOUR_MS} AS text)",
    }  # fmt: skip
    for dimension, value in values.items():
        database.execute(
            f"INSERT INTO usage_sums (owner_id,grain,dimension,start_ms,value,{NAMES},last_ms) "
            f"SELECT owner_id,'day','{dimension}',started_at_ms/{DAY_MS}*{DAY_MS},{value},{SUMS},"
            f"max(started_at_ms) FROM usage_records GROUP BY 4, 5"
        )
    added = ",".join(f"sum({name})" for name in NAMES.split(","))
    month = "unixepoch(start_ms/1000, 'unixepoch', 'start of month')*1000"
    database.execute(
        f"INSERT INTO usage_sums (owner_id,grain,dimension,start_ms,value,{NAMES},last_ms) "
        f"SELECT owner_id,'month',dimension,{month},value,{added},max(last_ms) FROM usage_sums "
        f"WHERE dimension <> 'hour' GROUP BY dimension, 4, value"
    )
    database.commit()
    database.close()
    print(f"{calls:,} calls, {file.stat().st_size / 2**30:.1f} GiB", flush=True)


class _Stay(urllib.request.HTTPRedirectHandler):
    """Redirects are read, not followed."""

    def redirect_request(self, *_):  # type: ignore[no-untyped-def]
        return None


def ask(path: str, cookie: str = "", **fields: str) -> tuple[int, dict[str, str], bytes]:
    data = urllib.parse.urlencode(fields).encode() if fields else None
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}{path}", data, {"cookie": cookie})
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=120) as reply:
            return reply.status, dict(reply.headers), reply.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


PAGES = (
    "/console/",
    "/console/?range=30d",
    "/console/?range=12m",
    "/console/edges",
    "/console/provider-keys",
    f"/console/provider-keys/pk_{7:026}",
    "/console/accounts",
    f"/console/accounts?at=acc_{3:026}",
    "/console/accounts?q=account%20777",
    f"/console/accounts/acc_{3:026}",
    f"/console/accounts/acc_{3:026}/rules",
    "/console/routing",
    "/console/usage?group=model&range=30d",
    "/console/usage?group=account&range=30d",
    "/console/usage?group=account&range=12m",
    "/console/usage?group=provider_key&range=30d",
    "/console/usage?group=day&range=12m",
    f"/console/usage?group=model&range=30d&account=acc_{3:026}",
    "/console/usage?group=account&range=7d&model=m-7",
    "/console/calls",
    "/console/calls?range=12m&model=m-7",
    f"/console/calls?range=12m&account=acc_{3:026}",
    f"/console/calls?range=12m&provider_key_id=pk_{7:026}",
    "/console/explain?model=m-7",
    "/console/operations",
    "/console/notices",
    "/console/settings",
    "/console/me",
    "/console/playground",
    "/console/find?q=account%20777",
    "/console/help",
)


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    environment = {**os.environ, "XAIROUTER_PORT": str(PORT), "XAIROUTER_LOG_LEVEL": "warning"}
    with tempfile.TemporaryDirectory(
        prefix="bench-console-", dir=os.environ.get("TMPDIR")
    ) as folder:
        data = ["--data-dir", folder]
        cli = [sys.executable, "-m", "xairouter"]
        made = subprocess.run(
            [*cli, "owner", "create", "bench", "--json", *data], check=True, capture_output=True
        )
        owner = json.loads(made.stdout)
        [file] = Path(folder).glob("*.db")
        fill(file, owner["account_id"], calls)
        server = subprocess.Popen([*cli, "serve", *data], env=environment)
        try:
            for _ in range(600):
                try:
                    if ask("/readyz")[0] == 200:
                        break
                except OSError:
                    time.sleep(0.2)
            _, headers, _ = ask("/console/sign-in", key=owner["api_key"])
            cookie = headers["set-cookie"].partition(";")[0]
            worst = 0.0
            for path in PAGES:
                times = []
                for _ in range(5 if calls > 100_000 else 1):
                    began = time.perf_counter()
                    status, _, body = ask(path, cookie)
                    times.append((time.perf_counter() - began) * 1000)
                    assert status == 200, (path, status, body[-500:])
                median = statistics.median(times)
                worst = max(worst, median)
                print(
                    f"{median:7.0f} ms  first {times[0]:6.0f}  {len(body) / 1000:6.0f} kB  {path}",
                    flush=True,
                )
            print(f"slowest: {worst:.0f} ms (budget 300)")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
