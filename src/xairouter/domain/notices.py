"""Notices: what needs a person's eye. One table of kinds; docs and sentences derive from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

KEY_REJECTED, KEY_SLEEPING = "key_rejected", "key_sleeping"
ABOUT_KEYS = (KEY_REJECTED, KEY_SLEEPING)
"""Kinds that are over when the provider key serves again, is replaced or deleted."""
PRICE_UNKNOWN, JOURNAL_BACKLOG, TEST = "price_unknown", "journal_backlog", "test"
BUDGET_THRESHOLD = "budget_threshold"


@dataclass(frozen=True, slots=True)
class NoticeKind:
    """One kind: a sentence with the fields of its detail in braces, and what to do."""

    kind: str
    sentence: str
    remedy: str


NOTICE_KINDS: Mapping[str, NoticeKind] = {
    row.kind: row
    for row in (
        NoticeKind(
            KEY_REJECTED,
            "The provider rejects the provider key “{name}”; no calls go to it.",
            "Replace the key, or test it when the provider accepts it again.",
        ),
        NoticeKind(
            KEY_SLEEPING,
            "The provider key “{name}” has served nothing for {minutes} minutes ({why}).",
            "Look at the account at the provider: its credit and its limits.",
        ),
        NoticeKind(
            PRICE_UNKNOWN,
            "No price is known for the model “{model}”; its calls have no cost.",
            "Set a price for it with PUT /api/v1/prices.",
        ),
        NoticeKind(
            JOURNAL_BACKLOG,
            "The journal holds {megabytes} MB that are not in the database; new calls are refused "
            "when it is full.",
            "Look at the database and the disk: xairouter doctor says what is wrong.",
        ),
        NoticeKind(
            BUDGET_THRESHOLD,
            "The account “{account}” has used {share} % of its budget of {usd} US dollars ({period}).",
            "Look at GET /api/v1/usage, or change the account's budget.",
        ),
        NoticeKind(TEST, "This is a test of the webhook.", "Nothing needs to be done."),
    )
}


@dataclass(frozen=True, slots=True)
class Occasion:
    """Something that a notice is to be raised for. One open notice stands for all occasions of the
    same owner, kind and subject; ``owner_id`` is empty for what concerns the installation.
    ``once`` – not again, even if the notice was dismissed."""

    owner_id: str
    kind: str
    subject_id: str
    detail: Mapping[str, str | int] = field(default_factory=dict)
    once: bool = False
