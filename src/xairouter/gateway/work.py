"""One call under way, and the parts of the house that the pipeline works with."""

from dataclasses import dataclass, field

from xairouter.accounting.counts import Reserved
from xairouter.accounting.left_open import NOTHING_OPEN, LeftOpen
from xairouter.counters.interface import Counters, Held
from xairouter.custody.room import Strongroom
from xairouter.dialects.interface import Dialect
from xairouter.dialects.look import Look
from xairouter.dialects.meter import Meter
from xairouter.directory.directory import Directory
from xairouter.directory.health import Health
from xairouter.directory.identity import Identifier, Identity
from xairouter.directory.retries import Retries
from xairouter.domain.calls import Match, Peek
from xairouter.gateway.admission import Admission
from xairouter.gateway.bodies import BodyTimes
from xairouter.gateway.running import Running, RunningCall
from xairouter.gateway.sampling import Sampler
from xairouter.gateway.talk import Network, Talk
from xairouter.gateway.traces import Traces
from xairouter.ledger.book import Book, Entry
from xairouter.observe import Metrics
from xairouter.providers.prices import PriceList
from xairouter.upstream.interface import Limits, Reply


@dataclass(frozen=True, slots=True)
class Parts:
    """What the pipeline works with; made by the composition root."""

    identifier: Identifier
    admission: Admission
    directory: Directory
    health: Health
    room: Strongroom
    retries: Retries
    book: Book
    running: Running
    prices: PriceList
    metrics: Metrics
    counters: Counters
    traces: Traces
    output_reserve: int
    limits: Limits
    max_body: int
    body_times: BodyTimes
    trusted_proxies: tuple[Network, ...] = ()


@dataclass(slots=True)
class Work:
    """One call: what is known of it, and what has become of it so far."""

    talk: Talk
    match: Match
    dialect: Dialect
    identity: Identity
    started: float
    address: str = ""
    query: str = ""
    """What of the request's query goes to the provider."""
    body: bytes = field(default=b"", repr=False)
    look: Look | None = field(default=None, repr=False)
    peek: Peek = field(default_factory=lambda: Peek(None))
    call: RunningCall | None = None
    entry: Entry | None = None
    reply: Reply | None = None
    meter: Meter | None = None
    injected_usage: bool = False
    first_byte_ms: int | None = None
    knows_object: bool = False
    object_parts: tuple[str, ...] | None = None
    settles: str | None = None
    """The call whose record the reply may settle: it asks for what that one made."""
    began_ms: int = 0
    held: Held | None = None
    held_again: list[Held] = field(default_factory=list)
    """What is reserved for requests that broke off, while others are tried."""
    reserved_tokens: int | None = None
    reserved_nano: int | None = None
    left_open: LeftOpen = NOTHING_OPEN
    """What that does not cover, and what a final statement has to close."""
    given_tokens: int | None = None
    finishes: bool = False
    """Whether its reply is read to its end although the client leaves: limits count what it used."""
    sampler: Sampler | None = None
    unsettled: int = 0
    """Requests that may have reached a provider and be billed, and have no reply."""
    is_waiting: bool = False
    """Whether the latest of them may still be answered."""
    is_whole: bool = False
    """Whether the reply came to a clean end."""

    @property
    def reserved(self) -> Reserved:
        """What was reserved for one request to a provider."""
        return Reserved(self.reserved_tokens or 0, self.reserved_nano or 0)
