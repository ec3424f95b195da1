"""Logs and metrics. Logs are structured, carry call ids, and never content or secrets."""

import logging
import os
import sys
from collections import Counter as TallyOf
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from xairouter.errors import ErrorCode

log: structlog.stdlib.BoundLogger = structlog.get_logger("xairouter")


def configure_logs(level: str) -> None:
    """Send our own and the libraries' log lines to stderr, tracebacks without local values."""
    wanted = getattr(logging, level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(wanted),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(stream=sys.stderr, level=max(wanted, logging.WARNING), force=True)
    # The libraries' debug lines may print headers; they stay off whatever our own level is.
    for name in ("uvicorn.access", "asyncio", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.ERROR)


class Metrics:
    """The product's Prometheus metrics, with label sets bounded by our own tables.

    Where several workers share one port, they keep them together in a folder that the supervisor
    names (``PROMETHEUS_MULTIPROC_DIR``, which prometheus-client reads), so that whoever is asked
    answers for all.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._ended: TallyOf[tuple[str, str]] = TallyOf()
        self._attempted = 0
        self._followed: list[tuple[Gauge, Callable[[], float]]] = []
        self._make_gauges()
        self._make_comparisons()
        self._calls = Counter(
            "xairouter_calls",
            "Calls ended, by dialect and outcome.",
            ["dialect", "outcome"],
            registry=self.registry,
        )
        self._refusals = Counter(
            "xairouter_refusals", "Refusals of our own, by code.", ["code"], registry=self.registry
        )
        self._attempts = Counter(
            "xairouter_attempts", "Requests sent to providers.", registry=self.registry
        )
        self.drain_failures = Counter(
            "xairouter_drain_failures",
            "Failed attempts to drain the journal into storage.",
            registry=self.registry,
        )
        self.unrecorded_refusals = Counter(
            "xairouter_unrecorded_refusals",
            "Refusals above the rate that is recorded singly.",
            registry=self.registry,
        )
        self.beyond_reservation = Counter(
            "xairouter_beyond_reservation_usd",
            "US dollars that calls cost beyond what was reserved for them.",
            registry=self.registry,
        )
        self.first_byte = Histogram(
            "xairouter_first_byte_seconds",
            "Time to the first byte of a reply.",
            registry=self.registry,
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300),
        )

    def _make_comparisons(self) -> None:
        """What counters of limits and budgets say beside the records."""
        self.counters_compared = Counter(
            "xairouter_counters_compared",
            "Counters of limits and budgets that were compared with the records.",
            registry=self.registry,
        )
        self._counters_difference = Counter(
            "xairouter_counters_difference",
            "What counters said below (and were raised by) or above the records: requests, tokens, "
            "US dollars.",
            ["unit", "side"],
            registry=self.registry,
        )
        for unit in ("requests", "tokens", "usd"):
            for side in ("below", "above"):
                self._counters_difference.labels(unit, side)

    def _make_gauges(self) -> None:
        """How things stand now; of several workers, the sum or the worst."""
        self.running = Gauge(
            "xairouter_calls_running",
            "Calls in flight.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.buffered = Gauge(
            "xairouter_buffered_bytes",
            "Request bodies held in memory.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.journal = Gauge(
            "xairouter_journal_bytes",
            "Bytes of journal not yet drained.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.counters_away = Gauge(
            "xairouter_counters_away",
            "1 while Valkey is away and limits are refused or shared out.",
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.blind = Gauge(
            "xairouter_blind_seconds",
            "Seconds since changes were last read or heard of.",
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.held_back = Gauge(
            "xairouter_owners_held_back",
            "Owners that are held to a fair share of a busy process.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )

    def call_ended(self, dialect: str, outcome: str) -> None:
        """Count a call; the library's own counters are dear, so they get sums, by ``refresh``."""
        self._ended[dialect, outcome] += 1

    def refused(self, code: ErrorCode) -> None:
        """Count a refusal of our own."""
        self._refusals.labels(code).inc()

    def counters_differ(self, unit: str, side: str, amount: int) -> None:
        """Count by how much a counter stood below or above the records: requests, tokens, or
        nano-dollars of ``money``."""
        if unit == "money":
            self._counters_difference.labels("usd", side).inc(amount / 10**9)
        else:
            self._counters_difference.labels(unit, side).inc(amount)

    def attempted(self) -> None:
        """Count a request sent to a provider."""
        self._attempted += 1

    def follow(self, gauge: Gauge, read: Callable[[], float]) -> None:
        """Have a gauge show what ``read`` says whenever figures are refreshed."""
        self._followed.append((gauge, read))

    def refresh(self) -> None:
        """Bring the figures up to date: a few times a second, and before they are shown."""
        ended, self._ended = self._ended, TallyOf()
        for (dialect, outcome), count in ended.items():
            self._calls.labels(dialect, outcome).inc(count)
        attempted, self._attempted = self._attempted, 0
        if attempted:
            self._attempts.inc(attempted)
        for gauge, read in self._followed:
            gauge.set(read())

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        self.refresh()
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        of_all = CollectorRegistry()
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
        return generate_latest(of_all)
