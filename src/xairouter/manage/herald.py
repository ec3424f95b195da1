"""The herald: watches for what needs a person, and tells it to webhooks, at least once.

A delivery is a POST of JSON, signed as the Standard Webhooks specification has it
(github.com/standard-webhooks/standard-webhooks): ``webhook-id``, ``webhook-timestamp`` and
``webhook-signature: v1,<base64 of HMAC-SHA256(secret, "id.timestamp.body")>``. Any 2xx is taken as
told; a redirect is not followed. What is not told is tried again for about three days.
"""

import asyncio
import base64
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from xairouter.clock import fresh_id, now_ms, pause, rfc3339
from xairouter.domain.notices import Notice, Occasion
from xairouter.domain.slots import AHEAD_MS
from xairouter.errors import StorageError, UpstreamError
from xairouter.manage.desk import Desk
from xairouter.manage.notices import close_notices, notice_view, raise_notices
from xairouter.manage.under_way import UnderWay
from xairouter.observe import log
from xairouter.storage import notices, owners, provider_keys
from xairouter.storage.notices import Delivery, NoticeRow
from xairouter.storage.owners import OwnerRow
from xairouter.turns import Places
from xairouter.upstream.interface import Client, Limits, WireRequest

LOOK_EVERY_SECONDS = 1.0
LONG_ASLEEP_SECONDS = 600.0
BACKLOG_SHARE = 0.25
"""The part of the journal's size limit from which on a person should know."""
PAUSES_SECONDS = (5, 30, 300, 1800, 7200, 18_000, 36_000, 86_400, 86_400)
_CLAIM_MS = 60_000
_LATEST_MS = max(PAUSES_SECONDS) * 1000 + AHEAD_MS
_LIMITS = Limits(connect=5, first_byte=10)
_WHOLE_SECONDS = 20.0
_IN_A_ROW = 50
MOST_TOLD = 32
"""Owners whose webhooks are told something at once, one notice of each; and the operator's."""
SECRET_PREFIX = "whsec_"  # noqa: S105 -- the specification's mark of a signing secret


@dataclass(frozen=True, slots=True)
class Target:
    """Where notices are told, and the secret that signs them."""

    url: str
    secret: str = field(repr=False)

    @classmethod
    def at(cls, url: str, secret: str) -> "Target | None":
        """The target there; None where there is no address."""
        return cls(url, secret) if url else None


def new_webhook_secret() -> str:
    """A fresh signing secret: ``whsec_`` and 32 random bytes in base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, notice_id: str, timestamp: int, body: bytes) -> str:
    """The value of ``webhook-signature``; a secret that is no ``whsec_`` counts as its own bytes."""
    if secret.startswith(SECRET_PREFIX):
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    else:
        key = secret.encode("utf-8")
    content = f"{notice_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode()


class Herald:
    """One per process; several share the work by claiming notices before they tell them.

    Each owner's notices are told one after another: a webhook that does not answer holds up the
    notices of its owner alone.
    """

    def __init__(
        self,
        desk: Desk,
        client: Client,
        *,
        backlog: Callable[[], int],
        most_backlog: int,
        operator: Target | None,
    ) -> None:
        self._desk = desk
        self._client = client
        self._backlog = backlog
        self._most_backlog = most_backlog
        self._operator = operator
        self._telling = UnderWay("herald_failed")
        self._places = Places(MOST_TOLD, 1)
        self._episode: NoticeRow | None = None
        self._is_stored = self._is_told = False

    async def run(self, stop: asyncio.Event) -> None:
        """Watch and tell once a second, until told to stop."""
        while await pause(stop, LOOK_EVERY_SECONDS):
            for work in (
                self.watch_backlog,
                self.watch_keys,
                self.watch_budgets,
                self.begin_telling,
            ):
                try:
                    await work()
                except Exception as error:  # noqa: BLE001 -- a background loop outlives every failure
                    log.warning("herald_failed", work=work.__name__, reason=str(error))
        await self._telling.stop()

    async def watch_backlog(self) -> None:
        """Tell the operator when the journal fills up, even while the database is away."""
        size = self._backlog()
        if size < self._most_backlog * BACKLOG_SHARE:
            if self._episode is not None and self._is_stored:
                async with self._desk.database.write() as connection:
                    await close_notices(
                        connection, "", (Notice.JOURNAL_BACKLOG,), Notice.JOURNAL_BACKLOG
                    )
            self._episode, self._is_stored, self._is_told = None, False, False
            return
        occasion = Occasion(
            "", Notice.JOURNAL_BACKLOG, Notice.JOURNAL_BACKLOG, {"megabytes": size >> 20}
        )
        if self._episode is None:
            now = now_ms()
            self._episode = {
                "id": fresh_id("ntc"),
                "owner_id": "",
                "kind": occasion.kind,
                "subject_id": occasion.subject_id,
                "detail": msgspec.json.encode(dict(occasion.detail)).decode(),
                "count": 1,
                "first_at_ms": now,
                "last_at_ms": now,
                "dismissed_at_ms": None,
                "delivered_at_ms": None,
                "tries": 0,
                "next_try_ms": None,
                "last_error": None,
            }
            log.error("journal_backlog", bytes=size)
        if self._is_stored:
            return
        try:
            async with self._desk.database.write() as connection:
                await raise_notices(connection, [occasion])
            self._is_stored = True
        except StorageError:
            if self._operator is not None and not self._is_told:
                self._is_told = await self._tell(self._operator, "", self._episode) is None

    async def watch_keys(self) -> None:
        """Raise a notice for each provider key that has slept for long."""
        asleep = self._desk.health.long_asleep(LONG_ASLEEP_SECONDS)
        if not asleep:
            return
        told: list[str] = []
        async with self._desk.database.write() as connection:
            for owner_id, key_id, ailment in asleep:
                key = await provider_keys.get(connection, owner_id, key_id)
                if key is None or key.revision != ailment.revision:
                    continue
                minutes = int((self._desk.health.now() - ailment.since) // 60)
                detail: dict[str, str | int] = {
                    "name": key.name,
                    "minutes": minutes,
                    "why": ailment.cause.replace("_", " "),
                }
                await raise_notices(
                    connection, [Occasion(owner_id, Notice.KEY_SLEEPING, key_id, detail)]
                )
                told.append(key_id)
        for key_id in told:
            self._desk.health.told(key_id)

    async def watch_budgets(self) -> None:
        """Raise a notice for each budget that has reached its soft threshold, once a period."""
        crossed = self._desk.counters.crossed()
        if not crossed:
            return
        async with self._desk.database.write() as connection:
            for one in crossed:
                account = await owners.get_account(connection, one.owner_id, one.account_id)
                if account is None:
                    continue
                detail: dict[str, str | int] = {
                    "account": account.name,
                    "account_id": account.id,
                    "share": round(one.notify_at * 100),
                    "usd": f"{one.limit / 10**9:g}",
                    "period": one.name,
                }
                # The period is part of the subject, so that each has a notice of its own.
                subject = f"{account.id}:{one.name}:{one.period_ms}:{one.limit}"
                occasion = Occasion(
                    one.owner_id, Notice.BUDGET_THRESHOLD, subject, detail, once=True
                )
                await raise_notices(connection, [occasion])
        # Not before they are stored: a crossing is seen once.
        self._desk.counters.told(crossed)

    async def deliver(self) -> int:
        """Tell what is due to its webhooks, and wait for all that is under way; returns how many
        notices were told."""
        await self.begin_telling()
        return await self._telling.results()

    async def begin_telling(self) -> None:
        """Begin to tell what is due, but to those who are being told something."""
        async with self._desk.database.read() as connection:
            now = now_ms()
            busy = self._telling.names
            due = await notices.owners_due(connection, now, now + _LATEST_MS, busy)
        for owner_id in due:
            self._telling.begin(owner_id, partial(self._deliver_to, owner_id))

    async def _deliver_to(self, owner_id: str) -> int:
        """Tell an owner what is due, until its webhook does not take something; how many it took."""
        if not owner_id:  # The operator's webhook waits for no owner's.
            return await self._deliver_now(owner_id)
        async with self._places.place(owner_id):
            return await self._deliver_now(owner_id)

    async def _deliver_now(self, owner_id: str) -> int:
        async with self._desk.database.read() as connection:
            now = now_ms()
            rows = await notices.due(connection, owner_id, now, now + _LATEST_MS, _IN_A_ROW)
        told = 0
        for row in rows:
            taken = await self._deliver_one(row)
            if taken is False:
                break
            told += taken is True
        return told

    async def _deliver_one(self, row: NoticeRow) -> bool | None:
        """Whether the webhook took a notice; None if there was nothing to tell, or nobody."""
        database, owner_id = self._desk.database, row["owner_id"]
        due = row["next_try_ms"]
        async with database.write(owner_id) as connection:
            if due is None or not await notices.claim(
                connection, row["id"], due, now_ms() + _CLAIM_MS
            ):
                return None
            owner = await owners.get_owner(connection, owner_id) if owner_id else None
            target = _target_of(owner) if owner_id else self._operator
        if target is None:
            error, values = None, Delivery(next_try_ms=None, tries=row["tries"])
        else:
            error = await self._tell(target, owner_id, row)
            values = Delivery(delivered_at_ms=now_ms(), next_try_ms=None, last_error=None)
            if error is not None:
                tries = row["tries"]
                again = (
                    now_ms() + PAUSES_SECONDS[tries] * 1000 if tries < len(PAUSES_SECONDS) else None
                )
                values = Delivery(next_try_ms=again, last_error=error)
                log.warning(
                    "webhook_failed", notice=row["id"], reason=error, again=again is not None
                )
        async with database.write(owner_id) as connection:
            await notices.settle(connection, row["id"], **values)
        return None if target is None else error is None

    async def _tell(self, target: Target, owner_id: str, row: NoticeRow) -> str | None:
        """One signed POST; None if it was taken, else a sentence that says why not."""
        body = msgspec.json.encode(
            {
                "type": f"notice.{row['kind']}",
                "timestamp": rfc3339(now_ms()),
                "data": {**notice_view(row), "owner_id": owner_id or None},
            }
        )
        timestamp = now_ms() // 1000
        headers = (
            ("content-type", "application/json"),
            ("user-agent", "xairouter-webhook"),
            ("webhook-id", str(row["id"])),
            ("webhook-timestamp", str(timestamp)),
            ("webhook-signature", sign(target.secret, str(row["id"]), timestamp, body)),
        )
        request = WireRequest("POST", target.url, headers, body)
        try:
            async with asyncio.timeout(_WHOLE_SECONDS):
                reply = await self._client.send(f"webhook:{owner_id}", request, _LIMITS)
                await reply.close()
        except TimeoutError:
            return "It did not answer in time."
        except UpstreamError as error:
            return str(error).replace("provider", "webhook")
        if 300 <= reply.status < 400:
            return f"It answered {reply.status}, a redirect, which is never followed."
        return None if 200 <= reply.status < 300 else f"It answered {reply.status}."


def _target_of(owner: OwnerRow | None) -> Target | None:
    if owner is None or owner.settings.webhook_url is None or owner.webhook_secret is None:
        return None
    return Target(owner.settings.webhook_url, owner.webhook_secret)
