"""Notices: what needs a person's eye. One table of kinds; docs and sentences derive from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Notice(StrEnum):
    """What a notice is about."""

    KEY_REJECTED = "key_rejected"
    KEY_SLEEPING = "key_sleeping"
    KEY_ALTERED = "key_altered"
    PRICE_UNKNOWN = "price_unknown"
    JOURNAL_BACKLOG = "journal_backlog"
    JOURNAL_DAMAGED = "journal_damaged"
    USAGE_DAMAGED = "usage_damaged"
    BUDGET_THRESHOLD = "budget_threshold"
    TEST = "test"


ABOUT_KEYS = (Notice.KEY_REJECTED, Notice.KEY_SLEEPING, Notice.KEY_ALTERED)
"""Kinds that are over when the provider key serves again, is replaced or deleted."""


class Delivery(StrEnum):
    """What became of telling a notice to the webhook; NONE: there was none to tell it to."""

    DELIVERED = "delivered"
    WAITING = "waiting"
    GIVEN_UP = "given_up"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class NoticeKind:
    """One kind: a sentence with the fields of its detail in braces, and what to do."""

    kind: Notice
    sentence: str
    remedy: str


NOTICE_KINDS: Mapping[Notice, NoticeKind] = {
    row.kind: row
    for row in (
        NoticeKind(
            Notice.KEY_REJECTED,
            "The provider rejects the provider key “{name}”; no calls go to it.",
            "Replace the key, or test it when the provider accepts it again.",
        ),
        NoticeKind(
            Notice.KEY_SLEEPING,
            "The provider key “{name}” has served nothing for {minutes} minutes ({why}).",
            "Look at the account at the provider: its credit and its limits.",
        ),
        NoticeKind(
            Notice.KEY_ALTERED,
            "The row of the provider key “{name}” was changed outside of the router; its secret does "
            "not open, and no calls go out with it.",
            "Find out who writes the database. Then replace the key and name its provider and "
            "endpoints again, or delete it and add it anew.",
        ),
        NoticeKind(
            Notice.PRICE_UNKNOWN,
            "No price is known for the model “{model}”; its calls have no cost.",
            "Set a price for it with PUT /api/v1/prices.",
        ),
        NoticeKind(
            Notice.JOURNAL_BACKLOG,
            "The journal holds {megabytes} MB that are not in the database; new calls are refused "
            "when it is full.",
            "Look at the database and the disk: xairouter doctor says what is wrong.",
        ),
        NoticeKind(
            Notice.JOURNAL_DAMAGED,
            "The journal file {file} was damaged on disk: {bytes} bytes, from byte {offset} on. What "
            "could be read around them is stored; the file is kept.",
            "Look at the disk; xairouter doctor names the file, which may then be removed.",
        ),
        NoticeKind(
            Notice.USAGE_DAMAGED,
            "A damaged journal may have lost how {calls} calls ended; they are recorded as interrupted, "
            "with what was known of them.",
            "Compare the usage of that time with the provider's own figures.",
        ),
        NoticeKind(
            Notice.BUDGET_THRESHOLD,
            "The account “{account}” has used {share} % of its budget of {usd} US dollars ({period}).",
            "Look at GET /api/v1/usage, or change the account's budget.",
        ),
        NoticeKind(Notice.TEST, "This is a test of the webhook.", "Nothing needs to be done."),
    )
}


@dataclass(frozen=True, slots=True)
class Occasion:
    """Something that a notice is to be raised for. One open notice stands for all occasions of the
    same owner, kind and subject; ``owner_id`` is empty for what concerns the installation.
    ``once`` – not again, even if the notice was dismissed."""

    owner_id: str
    kind: Notice
    subject_id: str
    detail: Mapping[str, str | int] = field(default_factory=dict)
    once: bool = False
