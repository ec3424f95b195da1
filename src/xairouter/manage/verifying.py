"""Walking a hash chain: its links, its leaves against the rows, rows without an entry, its head.

Calls go on meanwhile. So the head is fixed first and entries are read up to it only; what a later
statement sees beside that is an accusation only where no order of events explains it: a row and its
entry are committed together, so a row that was seen has an entry that a later statement sees.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from xairouter.clock import made_at_ms, now_ms
from xairouter.storage import chain, chain_rows, owners, pruning
from xairouter.storage.database import Database, in_steps

PAGE = 1000
_STEP = 64
DAY_MS = 86_400_000
MOST_SHOWN = 50
_Rows = Mapping[tuple[str, str], Mapping[str, object]]


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


class ReportView(TypedDict):
    """What was found in a chain, as it is shown."""

    owner_id: str
    whole: bool
    state: str
    entries: int
    of: int
    since: int
    head: str
    forgotten: int
    faults: list[str]


@dataclass(slots=True)
class Report:
    """What was found in one owner's chain; ``faults`` are sentences, at most fifty. ``entries`` is how
    far it has come, ``of`` where it ends, ``since`` from which entry on it reads; ``is_kept``: a later
    verification goes on from its end."""

    owner_id: str
    entries: int = 0
    of: int = 0
    since: int = 0
    is_done: bool = False
    is_kept: bool = False
    head: str = chain.FIRST.hex()
    forgotten: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return not self.faults

    def fault(self, sentence: str) -> None:
        if len(self.faults) < MOST_SHOWN and sentence not in self.faults:
            self.faults.append(sentence)

    def begin_anew(self) -> None:
        self.entries = self.since = self.forgotten = 0
        self.faults.clear()

    def view(self) -> ReportView:
        return {
            "owner_id": self.owner_id,
            "whole": self.is_whole,
            "state": "verified" if self.is_done else "verifying",
            "entries": self.entries,
            "of": self.of,
            "since": self.since,
            "head": self.head,
            "forgotten": self.forgotten,
            "faults": self.faults,
        }


Tell = Callable[[Report], None]
"""Is told now and then how far a verification has come."""


async def verify_all(database: Database, tell: Tell | None = None) -> list[Report]:
    """Every owner's chain, of deleted owners too."""
    async with database.read(seconds=None) as connection:
        ids = await chain.owners_with_chains(connection)
    return [await verify(database, Report(owner_id), tell=tell) for owner_id in ids]


async def verify(
    database: Database,
    report: Report,
    checkpoint: Checkpoint | None = None,
    start: chain.Point | None = None,
    tell: Tell | None = None,
) -> Report:
    """One owner's chain, and a checkpoint if one is given; ``report`` shows meanwhile how far it has
    come. From ``start`` on, up to which it was verified before: what was altered before that is found
    by a verification from the beginning."""
    owner_id = report.owner_id
    while True:
        async with database.snapshot() as connection:
            head = await chain.head_of(connection, owner_id)
            newest = await chain.last_of(connection, owner_id)
            base = await pruning.base_of(connection, owner_id)
        since_ms = start.at_ms if start is not None else 0
        walk = _Walk(database, report, checkpoint, since_ms)
        walk.tell = tell
        report.of = head[0] if head else newest
        await walk.begin(base, start)
        await walk.entries(report.of)
        if (head or (0, chain.FIRST)) != (report.of, walk.last) or newest != report.of:
            report.fault("The head is not the last entry's: entries are missing at the end.")
        await walk.rows()
        async with database.read(seconds=None) as connection:
            if report.is_whole or base == await pruning.base_of(connection, owner_id):
                break
        # Entries were pruned meanwhile.
        report.begin_anew()
    if checkpoint is not None and checkpoint.seq > report.entries:
        report.fault(
            f"The checkpoint has {checkpoint.seq} entries, the chain {report.entries}: it was cut."
        )
    if checkpoint is not None and checkpoint.seq < base.seq:
        report.fault(
            f"The checkpoint of {checkpoint.at} is older than the records that are kept, and says "
            "nothing of them; keep a newer one."
        )
    report.is_done = True
    return report


class _Walk:
    """One pass over a chain; each page is a connection of its own, so that none is kept long, and other
    work goes on between a page's steps."""

    def __init__(
        self,
        database: Database,
        report: Report,
        checkpoint: Checkpoint | None,
        since_ms: int,
    ) -> None:
        self._database = database
        self._checkpoint = checkpoint
        self._since_ms = since_ms
        self.tell: Tell | None = None
        self.report = report
        self.last = chain.FIRST
        self._seen = {chain.USAGE: 0, chain.OPERATION: 0}
        """Rows of entries, that began since then."""
        self._settled, self._told = set[str](), set[str]()
        """Records that say that they were settled, and those of which an entry says so."""

    async def begin(self, base: pruning.Base, start: chain.Point | None) -> None:
        """Go to the beginning: what is left of what was pruned, or behind what was verified before."""
        report = self.report
        if start is not None and start.seq >= base.seq:
            report.entries = report.since = start.seq
            self.last = start.hash
            return
        kept, count, after = chain.FIRST, 0, 0
        while True:
            page, rows, oldest_ms = await self._page(after, base.seq)
            for entry in page:
                kept, count = pruning.held(kept, entry["leaf"]), count + 1
                self._check_row(entry, rows, oldest_ms)
            if len(page) < PAGE:
                break
            after = page[-1]["seq"]
        if kept != base.kept:
            report.fault("Entries of operations before the first record that is kept were altered.")
        report.forgotten += base.seq - count
        report.entries, self.last = base.seq, base.hash
        self._check_point(base.seq)

    async def entries(self, up_to: int) -> None:
        """Links, and leaves against the rows."""
        count = PAGE
        after = self.report.entries
        while count == PAGE:
            page, rows, oldest_ms = await self._page(after, up_to)
            async for some in in_steps(page, _STEP):
                for entry in some:
                    self._check(entry, rows, oldest_ms)
            count = len(page)
            after = page[-1]["seq"] if page else after
            self.report.head = self.last.hex()
            if self.tell is not None:
                self.tell(self.report)

    async def _page(self, after: int, up_to: int) -> tuple[Sequence[chain.Entry], _Rows, int]:
        """Entries, their rows, and since when records are kept."""
        owner_id = self.report.owner_id
        async with self._database.read(seconds=None) as connection:
            page = await chain.page(connection, owner_id, after, up_to, PAGE)
            rows = await chain_rows.of_entries(connection, owner_id, page)
            # Behind the rows: what is gone by now was past the days that are set by now.
            owner = await owners.get_owner(connection, owner_id)
        days = owner.settings.record_days if owner is not None else 0
        return page, rows, now_ms() - days * DAY_MS

    def _check(self, entry: chain.Entry, rows: _Rows, oldest_ms: int) -> None:
        report = self.report
        report.entries += 1
        if entry["seq"] != report.entries:
            report.fault(f"Entry {report.entries} is missing; {entry['seq']} follows.")
            report.entries = entry["seq"]
        self.last = chain.link(self.last, entry["leaf"])
        self._check_row(entry, rows, oldest_ms)
        self._check_point(entry["seq"])

    def _check_point(self, seq: int) -> None:
        point = self._checkpoint
        if point is not None and seq == point.seq and self.last.hex() != point.head:
            self.report.fault(
                f"Entry {point.seq} is not what the checkpoint of {point.at} holds: the chain was "
                "computed anew."
            )

    def _check_row(self, entry: chain.Entry, rows: _Rows, oldest_ms: int) -> None:
        report, kind, ref_id = self.report, entry["kind"], entry["ref_id"]
        row = rows.get((kind, ref_id))
        if kind == chain.SETTLED:
            self._told.add(ref_id)
        elif row is not None:
            self._seen[kind] += chain_rows.began_ms(kind, row) >= self._since_ms
            if row.get("settled") is not None:
                self._settled.add(ref_id)
        if row is None:
            # Records past their days are deleted on purpose; their hash stays.
            if kind != chain.OPERATION and made_at_ms(ref_id) < oldest_ms + DAY_MS:
                report.forgotten += kind == chain.USAGE
            else:
                report.fault(f"{ref_id} (entry {entry['seq']}) was removed.")
        elif chain.leaf_of(entry["salt"], _state(kind, row)) != entry["leaf"]:
            report.fault(f"{ref_id} (entry {entry['seq']}) was altered.")

    async def rows(self) -> None:
        """Rows that no entry is of, and settled ones without an entry that says so.
        They are counted; only where there are too many are they looked at one by one."""
        owner_id, report = self.report.owner_id, self.report
        for kind, seen in self._seen.items():
            async with self._database.snapshot(seconds=None) as connection:
                count = await chain_rows.count(connection, owner_id, kind, self._since_ms)
                late = await chain.behind(connection, owner_id, report.of)
            self._told.update(ref_id for one, ref_id in late if one == chain.SETTLED)
            if count > seen + sum(one == kind for one, _ in late):
                await self._name_unlinked(kind)
        for ref_id in sorted(self._settled - self._told):
            report.fault(f"{ref_id} was altered: no entry says that it was settled.")

    async def _name_unlinked(self, kind: str) -> None:
        """Look for rows without an entry: the ids of all entries' rows are held in memory for it."""
        owner_id, behind = self.report.owner_id, (self._since_ms, "")
        suspects, count = set[str](), PAGE
        async with self._database.read(seconds=None) as connection:
            entries = await chain.behind(connection, owner_id, 0)
            linked = {ref_id for one, ref_id in entries if one == kind}
            while count == PAGE:
                page = await chain_rows.page(connection, owner_id, kind, behind, PAGE)
                suspects.update(ref_id for _, ref_id in page if ref_id not in linked)
                count, behind = len(page), page[-1] if page else behind
            # Of those that came meanwhile there is an entry by now.
            late = {
                ref_id for _, ref_id in await chain.behind(connection, owner_id, self.report.of)
            }
        for ref_id in sorted(suspects - late):
            self.report.fault(f"{ref_id} has no entry: it was inserted by hand.")


def _state(kind: str, row: Mapping[str, object]) -> Mapping[str, object]:
    """A row as an entry of this kind holds it."""
    return chain.first_state(row) if kind == chain.USAGE else row
