"""The hash chains over usage records and operations: are they whole, and checkpoints of them.

A chain shows what was removed, inserted or altered by accident or in part; who writes the whole
database could compute it anew. Against that a checkpoint is kept elsewhere: it holds everything up
to its sequence number, and nothing after.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.clock import made_at_ms, now_ms, rfc3339
from xairouter.custody.vault import OpenVault, audit_mac
from xairouter.errors import ManageError
from xairouter.manage.desk import Actor, Desk, require
from xairouter.storage import chain, owners
from xairouter.storage.database import Database
from xairouter.storage.tables import operations, usage_records

PAGE = 1000
DAY_MS = 86_400_000
MOST_SHOWN = 50
_TABLES: Mapping[str, tuple[sa.Table, str]] = {
    "usage": (usage_records, "call_id"),
    "operation": (operations, "id"),
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A chain as it stood: sequence number, head, when, and a MAC under the vault's root."""

    owner_id: str
    seq: int
    head: str
    at: str
    mac: str = ""

    def content(self) -> bytes:
        """What the MAC is over."""
        return (
            f"xairouter/checkpoint/v1\n{self.owner_id}\n{self.seq}\n{self.head}\n{self.at}".encode()
        )


@dataclass(slots=True)
class Report:
    """What was found in one owner's chain; ``faults`` are sentences, at most fifty."""

    owner_id: str
    entries: int = 0
    head: str = chain.FIRST.hex()
    forgotten: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return not self.faults

    def fault(self, sentence: str) -> None:
        if len(self.faults) < MOST_SHOWN:
            self.faults.append(sentence)

    def view(self) -> dict[str, Any]:
        return {
            "owner_id": self.owner_id,
            "whole": self.is_whole,
            "entries": self.entries,
            "head": self.head,
            "forgotten": self.forgotten,
            "faults": self.faults,
        }


async def verify_all(database: Database) -> list[Report]:
    """Every owner's chain, of deleted owners too."""
    async with database.read(seconds=None) as connection:
        ids = await chain.owners_with_chains(connection)
    return [await verify(database, owner_id) for owner_id in ids]


async def verify(database: Database, owner_id: str, checkpoint: Checkpoint | None = None) -> Report:
    """Walk one owner's chain: links, leaves against the rows, rows without a link, the head; and a
    checkpoint if one is given."""
    report = Report(owner_id)
    async with database.read(seconds=None) as connection:
        owner = await owners.get_owner(connection, owner_id)
        days = owner.settings.record_days if owner is not None else 0
        oldest = now_ms() - days * DAY_MS
        last, known = chain.FIRST, set[str]()
        async for entries in _pages(connection, owner_id):
            rows = await _rows(connection, owner_id, entries)
            for entry in entries:
                report.entries += 1
                if entry["seq"] != report.entries:
                    report.fault(f"Entry {report.entries} is missing; {entry['seq']} follows.")
                    report.entries = entry["seq"]
                last = chain.link(last, entry["leaf"])
                if last != entry["hash"]:
                    report.fault(f"Entry {entry['seq']} does not follow from the one before.")
                    last = entry["hash"]
                _check_row(report, entry, rows, oldest)
                if checkpoint is not None and entry["seq"] == checkpoint.seq:
                    _check_point(report, checkpoint, entry["hash"])
            known.update(entry["ref_id"] for entry in entries)
        report.head = last.hex()
        head = await chain.head_of(connection, owner_id)
        if head != (report.entries, last) and (report.entries or head is not None):
            report.fault("The head is not the last entry's: entries are missing at the end.")
        for name in await _unlinked(connection, owner_id, known):
            report.fault(f"{name} has no entry: it was inserted by hand.")
    if checkpoint is not None and checkpoint.seq > report.entries:
        report.fault(
            f"The checkpoint has {checkpoint.seq} entries, the chain {report.entries}: it was cut."
        )
    return report


async def _pages(
    connection: AsyncConnection, owner_id: str
) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    after = 0
    while entries := await chain.page(connection, owner_id, after, PAGE):
        yield entries
        after = entries[-1]["seq"]


async def _rows(
    connection: AsyncConnection, owner_id: str, entries: Sequence[Mapping[str, Any]]
) -> dict[tuple[str, str], dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for kind, (table, name) in _TABLES.items():
        ids = [entry["ref_id"] for entry in entries if entry["kind"] == kind]
        if ids:
            query = sa.select(table).where(table.c.owner_id == owner_id, table.c[name].in_(ids))
            for row in (await connection.execute(query)).mappings():
                found[(kind, row[name])] = dict(row)
    return found


def _check_row(
    report: Report,
    entry: Mapping[str, Any],
    rows: Mapping[tuple[str, str], dict[str, Any]],
    oldest_ms: int,
) -> None:
    kind, ref_id = entry["kind"], entry["ref_id"]
    row = rows.get((kind, ref_id))
    if row is None:
        # Records past their days are deleted on purpose; their hash stays.
        if kind == "usage" and made_at_ms(ref_id) < oldest_ms + DAY_MS:
            report.forgotten += 1
        else:
            report.fault(f"{ref_id} (entry {entry['seq']}) was removed.")
    elif chain.leaf_of(entry["salt"], row) != entry["leaf"]:
        report.fault(f"{ref_id} (entry {entry['seq']}) was altered.")


def _check_point(report: Report, checkpoint: Checkpoint, found: bytes) -> None:
    if found.hex() != checkpoint.head:
        report.fault(
            f"Entry {checkpoint.seq} is not what the checkpoint of {checkpoint.at} holds: the chain "
            "was computed anew."
        )


async def _unlinked(connection: AsyncConnection, owner_id: str, known: set[str]) -> list[str]:
    found: list[str] = []
    for table, name in _TABLES.values():
        query = sa.select(table.c[name]).where(table.c.owner_id == owner_id)
        found += [row[0] for row in await connection.execute(query) if row[0] not in known]
    return found


async def show_audit(desk: Desk, actor: Actor) -> dict[str, Any]:
    """The state of the owner's chain, and a checkpoint of it to keep elsewhere."""
    require(actor, "audit.read")
    report = await verify(desk.database, actor.owner_id)
    point = Checkpoint(actor.owner_id, report.entries, report.head, rfc3339(now_ms()))
    return {**report.view(), "checkpoint": _view(signed(actor.vault, point))}


async def check_audit(desk: Desk, actor: Actor, given: Mapping[str, Any]) -> dict[str, Any]:
    """The chain against a checkpoint, whose MAC says whether this vault made it."""
    require(actor, "audit.read")
    point = read_checkpoint(given)
    if point.owner_id != actor.owner_id or signed(actor.vault, point) != point:
        raise ManageError(
            "invalid_field",
            "This checkpoint was not made by this owner's vault.",
            {"mac": "does not fit"},
        )
    return (await verify(desk.database, actor.owner_id, point)).view()


def signed(vault: OpenVault, point: Checkpoint) -> Checkpoint:
    """A checkpoint with its MAC."""
    mac = audit_mac(vault, point.content())
    return Checkpoint(point.owner_id, point.seq, point.head, point.at, mac)


def read_checkpoint(given: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint from its JSON; raises ManageError."""
    names = {"owner_id": str, "seq": int, "head": str, "at": str, "mac": str}
    wrong = {
        n: f"must be a {t.__name__}" for n, t in names.items() if not isinstance(given.get(n), t)
    }
    wrong |= {str(name)[:64]: "unknown" for name in set(given) - set(names)}
    if wrong:
        raise ManageError("invalid_field", "This is not a checkpoint.", wrong)
    return Checkpoint(**given)


def _view(point: Checkpoint) -> dict[str, Any]:
    return {name: getattr(point, name) for name in Checkpoint.__dataclass_fields__}
