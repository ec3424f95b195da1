"""The product's own times, set beyond what a machine that stands still for seconds runs over.

How long a server may keep an answer waiting, or another instance be silent, is a matter of operation:
only the test that is about such a time may meet it, and sets it (or all of them, by the fixture
``product_times``) back.
"""

from importlib import import_module
from typing import Any

from xairouter.upstream.interface import Limits

_OF_DATABASES: dict[str, dict[str, Any]] = {
    "xairouter.storage.drivers": {
        "LOCK_WAIT_MS": 120_000,
        "WRITER_PAUSE_MS": 20_000,
        "_CONNECT_SECONDS": 120,
        "_STATEMENT_SECONDS": 120,
    },
}
_OTHERS: dict[str, dict[str, Any]] = {
    "xairouter.storage.valkey": {"ANSWER_SECONDS": 60.0},
    "xairouter.directory.directory": {"LOAD_SECONDS": 60.0},
    "xairouter.directory.bus": {"ALIVE_SECONDS": 60.0},
    "xairouter.gateway.running": {"UNSURE_SECONDS": 60.0},
    # Nobody is held back because the loop runs late.
    "xairouter.gateway.admission": {"LATE_SECONDS": 60.0},
    "xairouter.ledger.adoption": {"WAIT_SECONDS": 60.0},
    "xairouter.app": {"START_SECONDS": 60.0},
    "xairouter.manage.audits": {"WAIT_SECONDS": 60.0},
    "xairouter.manage.herald": {"_LIMITS": Limits(60, 60), "_WHOLE_SECONDS": 120.0},
    "xairouter.manage.probe": {"_LIMITS": Limits(60, 60), "_WHOLE_SECONDS": 120.0},
    "xairouter.upstream.connection": {"REPLAY_SECONDS": 60.0},
    "xairouter.upstream.names": {"DEADLINE_SECONDS": 60},
    "xairouter.gateway.serving": {"CHECK_SECONDS": 120.0},
}
PRODUCT = {
    (module, name): getattr(import_module(module), name)
    for module, times in (_OF_DATABASES | _OTHERS).items()
    for name in times
}
"""What they are in operation, by module and name."""


def be_patient(*, databases: bool = True) -> None:
    """Set these times for this process; those of ``databases`` not where a lock ends a command."""
    for module, times in (_OF_DATABASES | _OTHERS if databases else _OTHERS).items():
        for name, value in times.items():
            setattr(import_module(module), name, value)
