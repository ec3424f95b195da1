"""The hash chains over usage records and operations: are they whole, and checkpoints of them.

A chain shows what was removed, inserted or altered by accident or in part; who writes the whole
database could compute it anew. Against that a checkpoint is kept elsewhere: it holds everything up
to its sequence number, and nothing after.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypedDict, cast

from xairouter.clock import now_ms, rfc3339
from xairouter.custody.vault import OpenVault, audit_mac
from xairouter.domain.permissions import Permission
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.audits import Asked
from xairouter.manage.desk import Actor, Desk, require
from xairouter.manage.fields import MOST_PROBLEMS
from xairouter.manage.verifying import DAY_MS, Checkpoint, Report, ReportView
from xairouter.storage import chain, pruning
from xairouter.storage.chain import Point

MANY = 10_000
"""Entries; a chain of fewer new ones is verified from its beginning each time."""


class CheckpointView(TypedDict):
    """A checkpoint as it is kept elsewhere."""

    owner_id: str
    seq: int
    head: str
    at: str
    mac: str


class AuditView(ReportView):
    """The same with a checkpoint to keep, once all is verified."""

    checkpoint: CheckpointView | None


async def show_audit(desk: Desk, actor: Actor, *, is_whole: bool = False) -> AuditView:
    """The state of the owner's chain, and a checkpoint of it to keep elsewhere. A long chain is verified
    in the background: the answer says how far it has come. It goes on from where it was verified
    within the last day, unless it ``is_whole``."""
    require(actor, Permission.AUDIT_READ)
    start = None if is_whole else await _verified_before(desk, actor)
    report = await desk.audits.report(desk.database, Asked(actor.owner_id, start))
    if not report.is_done:
        return {**report.view(), "checkpoint": None}
    await _check_base(desk, actor, report)
    if report.is_whole:
        await _keep(desk, actor, report)
    point = Checkpoint(actor.owner_id, report.entries, report.head, rfc3339(now_ms()))
    return {**report.view(), "checkpoint": _view(signed(actor.vault, point))}


async def _verified_before(desk: Desk, actor: Actor) -> Point | None:
    """Up to where the chain was verified, if this vault says so and it began at the beginning within
    the last day."""
    async with desk.long_read(actor.owner_id) as connection:
        point = await chain.point_of(connection, actor.owner_id)
    if point is None or audit_mac(actor.vault, point.content()) != point.mac:
        return None
    return point if abs(now_ms() - point.whole_at_ms) < DAY_MS else None


async def _check_base(desk: Desk, actor: Actor, report: Report) -> None:
    """Where the chain begins after pruning is signed by this vault."""
    async with desk.long_read(actor.owner_id) as connection:
        base = await pruning.base_of(connection, actor.owner_id)
    if base.seq and audit_mac(actor.vault, base.content()) != base.mac:
        report.fault("No key of this owner signed where the chain begins: it was cut by hand.")


async def _keep(desk: Desk, actor: Actor, report: Report) -> None:
    """Have the next verification go on from here, where that spares it much."""
    if report.entries - report.since < MANY or report.is_kept:
        return
    report.is_kept = True  # Others who asked for the same verification need not.
    async with desk.database.write(actor.owner_id) as connection:
        known = await chain.point_of(connection, actor.owner_id) if report.since else None
        whole_at_ms = known.whole_at_ms if known is not None else now_ms()
        head = bytes.fromhex(report.head)
        point = Point(actor.owner_id, report.entries, head, now_ms(), whole_at_ms)
        mac = audit_mac(actor.vault, point.content())
        await chain.keep_point(connection, replace(point, mac=mac))


async def check_audit(desk: Desk, actor: Actor, given: Mapping[str, object]) -> ReportView:
    """The chain against a checkpoint, whose MAC says whether this vault made it."""
    require(actor, Permission.AUDIT_READ)
    point = read_checkpoint(given)
    if point.owner_id != actor.owner_id or signed(actor.vault, point) != point:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "This checkpoint was not made by this owner's vault.",
            {"mac": "does not fit"},
        )
    report = await desk.audits.report(desk.database, Asked(actor.owner_id, checkpoint=point))
    if report.is_done:
        await _check_base(desk, actor, report)
    return report.view()


def signed(vault: OpenVault, point: Checkpoint) -> Checkpoint:
    """A checkpoint with its MAC."""
    mac = audit_mac(vault, point.content())
    return Checkpoint(point.owner_id, point.seq, point.head, point.at, mac)


def read_checkpoint(given: Mapping[str, object]) -> Checkpoint:
    """A checkpoint from its JSON; raises ManageError."""
    names = {"owner_id": str, "seq": int, "head": str, "at": str, "mac": str}
    wrong = {
        n: f"must be a {t.__name__}" for n, t in names.items() if not isinstance(given.get(n), t)
    }
    unknown = [name for name in given if name not in names][:MOST_PROBLEMS]
    wrong |= {str(name)[:64]: "unknown" for name in unknown}
    if wrong:
        raise ManageError(ErrorCode.INVALID_FIELD, "This is not a checkpoint.", wrong)
    return Checkpoint(**cast(CheckpointView, given))


def _view(point: Checkpoint) -> CheckpointView:
    return {
        "owner_id": point.owner_id,
        "seq": point.seq,
        "head": point.head,
        "at": point.at,
        "mac": point.mac,
    }
