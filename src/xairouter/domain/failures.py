"""Why a provider failed a call: the causes, and the marks that tell them in an error reply."""

from dataclasses import dataclass

REJECTED, LIMITED, OUT_OF_CREDIT = "key_rejected", "key_limited", "out_of_credit"
OVERLOADED, FAILED, UNREACHABLE = "model_overloaded", "provider_failed", "unreachable"
ABSENT, ADDRESS, CLIENT = "endpoint_absent", "address_limited", "client_fault"

RETRIED = frozenset(
    {REJECTED, LIMITED, OUT_OF_CREDIT, OVERLOADED, FAILED, UNREACHABLE, ABSENT, ADDRESS}
)
"""Causes for which another of the owner's keys may serve the call."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A mark in an error reply's body that tells its cause better than the status does; status 0
    stands for any."""

    cause: str
    status: int
    mark: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """A cause, and how long the provider itself asks to be left alone (seconds, None: unsaid)."""

    cause: str
    wait: float | None = None
