"""Why a provider failed a call: the causes, and the marks that tell them in an error reply."""

from dataclasses import dataclass
from enum import StrEnum

from xairouter.domain.said import Mark


class Cause(StrEnum):
    """Why a provider failed a call."""

    REJECTED = "key_rejected"
    LIMITED = "key_limited"
    OUT_OF_CREDIT = "out_of_credit"
    OVERLOADED = "model_overloaded"
    FAILED = "provider_failed"
    UNREACHABLE = "unreachable"
    ABSENT = "endpoint_absent"
    ADDRESS = "address_limited"
    TOO_LARGE = "request_too_large"
    CLIENT = "client_fault"


RETRIED = frozenset(Cause) - {Cause.CLIENT}
"""Causes for which another of the owner's keys may serve the call."""


@dataclass(frozen=True, slots=True)
class Sign:
    """A mark of an error reply that tells its cause better than the status does."""

    cause: Cause
    mark: Mark


@dataclass(frozen=True, slots=True)
class Failure:
    """A cause, and how long the provider itself asks to be left alone (seconds, None: unsaid)."""

    cause: Cause
    wait: float | None = None
