"""How a kept connection ends: after a reply that said so, or after it has rested for a moment.

A client that calls without a pause sends its next request with the last byte of a reply. A connection
that ended just then would cost it a call that nobody has read.
"""

from typing import Any

from xairouter.gateway.serving import HttpToolsProtocol

MOMENT_SECONDS = 0.25
"""How long a connection rests before it ends by itself when the instance is about to."""
_LAST_LOOK_SECONDS = 0.01


class Resting(HttpToolsProtocol):
    """uvicorn's protocol, but for the end of a connection without a request."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # It has served a request before.
        self.is_kept = False

    @property
    def is_leaving(self) -> bool:
        """Whether every reply is to be the last one of its connection."""
        raise NotImplementedError

    def on_response_complete(self) -> None:
        self.is_kept = True
        super().on_response_complete()
        if self.is_leaving:
            # A reply that began before the notice could not say so: the next one will.
            self._end_soon()

    def shutdown(self) -> None:
        """The server ends: what is answered goes on to its end, what rests ends after a moment."""
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
        else:
            self._end_soon()

    def timeout_keep_alive_handler(self) -> None:
        """It has rested for long enough. What came just now may wait in the socket: the event loop is to
        look there once more."""
        self.timeout_keep_alive_task = self.loop.call_later(
            _LAST_LOOK_SECONDS, super().timeout_keep_alive_handler
        )

    def _end_soon(self) -> None:
        """End unless a request comes within a moment of the last one."""
        if self.transport.is_closing():
            return
        left, timer = MOMENT_SECONDS, self.timeout_keep_alive_task
        if timer is not None:
            left -= self.timeout_keep_alive - (timer.when() - self.loop.time())
            timer.cancel()
        self.timeout_keep_alive_task = self.loop.call_later(
            max(left, 0.0), self.timeout_keep_alive_handler
        )
