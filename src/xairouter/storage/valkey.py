"""The Valkey or Redis server, for those who use it: one way to reach it, one error when it is away."""

from collections.abc import Awaitable
from typing import Any

from xairouter.errors import ConfigError, ValkeyAwayError

ANSWER_SECONDS = 2.0


def valkey_client(url: str) -> Any:
    """The library's client; raises ConfigError where it is not installed or the URL is none."""
    try:
        from valkey import asyncio as valkey
    except ImportError:
        raise ConfigError(
            ["XAIROUTER_VALKEY_URL: the package `valkey` is missing; install xairouter[valkey]."]
        ) from None
    try:
        return valkey.from_url(  # type: ignore[no-untyped-call]
            url,
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            health_check_interval=30,
        )
    except ValueError:
        raise ConfigError(
            ["XAIROUTER_VALKEY_URL: give valkey://host:port/0, redis://… or unix://…."]
        ) from None


async def answered(asked: Awaitable[Any], what: str) -> Any:
    """The server's answer; every way in which it can be away is one ValkeyAwayError, without
    its address. ``what`` begins the sentence: “The counters cannot be read now”."""
    from valkey.exceptions import ValkeyError

    failed = ""
    try:
        return await asked
    except (ValkeyError, OSError, TimeoutError) as error:
        failed = type(error).__name__
    raise ValkeyAwayError(f"{what} ({failed}).")
