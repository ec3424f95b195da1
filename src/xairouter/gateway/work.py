"""One call under way, and the parts of the house that the pipeline works with."""

from dataclasses import dataclass, field

from xairouter.counters.interface import Counters, Held
from xairouter.custody.room import Strongroom
from xairouter.dialects.interface import Dialect
from xairouter.dialects.meter import Meter
from xairouter.directory.directory import Directory
from xairouter.directory.health import Health
from xairouter.directory.identity import Identifier, Identity
from xairouter.directory.retries import Retries
from xairouter.domain.calls import Match, Peek
from xairouter.gateway.admission import Admission
from xairouter.gateway.running import Running, RunningCall
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
    body_idle_seconds: float
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
    body: bytes = field(default=b"", repr=False)
    peek: Peek = field(default_factory=lambda: Peek(None))
    call: RunningCall | None = None
    entry: Entry | None = None
    reply: Reply | None = None
    meter: Meter | None = None
    injected_usage: bool = False
    first_byte_ms: int | None = None
    knows_object: bool = False
    began_ms: int = 0
    held: Held | None = None
    reserved_tokens: int | None = None
    reserved_nano: int | None = None
