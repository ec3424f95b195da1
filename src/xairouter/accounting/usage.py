"""What is known of a call's usage when it ends, or is looked at on its way.

A provider's *final* statement is the usage that it bills: which one that is, each dialect says
(``Tally.is_final``). Until it has come, usage is estimated from what passed, and never below what
was stated so far.
"""

import re
from collections.abc import Sequence

import msgspec

from xairouter.accounting.reservation import BYTES_PER_TOKEN
from xairouter.domain.calls import Usage

GAVE_UP = frozenset({408, 499, 504, 522, 523, 524})
"""Statuses of a server that stopped waiting: the work may have been done, and billed, behind it."""
_UNSERVED = frozenset({501, 503, 505, 508, 511, 521, 525, 526, 529, 530})
"""Statuses from 500 on that say that the work was not begun: not implemented, no room (503, Anthropic's
529), and of Cloudflare's those of a server that was not reached. Sources: RFC 9110, section 15.6;
docs.anthropic.com/en/api/errors; developers.cloudflare.com/support/troubleshooting/http-status-codes."""
INFLATED = 4
"""Bytes of text that a byte of a compressed reply is taken for."""


class Passed(msgspec.Struct, frozen=True):
    """What passed of a reply: its size in bytes, and samples of its latest pieces."""

    size: int
    samples: Sequence[bytes]
    is_compressed: bool = False


def text_tokens(passed: Passed, text: re.Pattern[bytes]) -> int:
    """Tokens of output in what passed; ``text`` finds the strings that models write.

    The share of text in the samples stands for the whole: an event's frame is many times as long as
    the word in it, and reading every event again would cost more than passing it on.
    """
    if passed.is_compressed:
        return -(-passed.size * INFLATED // BYTES_PER_TOKEN)
    sample = b"\n".join(passed.samples)
    found = sum(map(len, text.findall(sample)))
    return -(-passed.size * found // (len(sample) * BYTES_PER_TOKEN)) if found else 0


def estimated(stated: Usage, given: int, made: int) -> Usage:
    """Usage without a final statement: the input as stated, else as estimated; the output at least
    what was seen of it."""
    output = max(stated.output_tokens or 0, made)
    return msgspec.structs.replace(
        stated,
        input_tokens=given if stated.input_tokens is None else stated.input_tokens,
        output_tokens=output if output or stated.output_tokens is not None else None,
    )


_SERVED = re.compile(rb'"failed_generation"\s*+:\s*+"(?!")|disconnect/reset before headers')
"""In an error: what the model wrote before the provider found that it does not fit (Groq); a proxy's
word for a server that broke off with the request in hand (Envoy's, with 503)."""


def is_refused(status: int | None, body: bytes = b"", *, fails_free: bool = False) -> bool:
    """Whether a reply says that the provider did none of the work, or bills none: ``fails_free`` – it
    says so of all that fails."""
    if status is None or status < 400 or status in GAVE_UP:
        return False
    if status >= 500 and status not in _UNSERVED and not fails_free:
        return False
    return _SERVED.search(body) is None
