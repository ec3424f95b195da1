"""What is kept of a reply while it passes, for the case that the provider never says what it used."""

from collections import deque
from collections.abc import Callable

from xairouter.accounting.usage import Passed

SAMPLES, SAMPLE_BYTES = 8, 1024


class Sampler:
    """Keeps samples of a reply's latest pieces; ``size`` says how many bytes passed."""

    __slots__ = ("_is_compressed", "_samples", "keep", "size")

    def __init__(self, *, is_compressed: bool) -> None:
        self._samples: deque[bytes] = deque(maxlen=SAMPLES)
        self.keep: Callable[[bytes], None] = self._samples.append
        """Takes a piece, or the ``ends_of`` one of more than ``SAMPLE_BYTES``."""
        self.size: Callable[[], int] = int
        self._is_compressed = is_compressed

    def passed(self) -> Passed:
        """What passed until now."""
        return Passed(self.size(), tuple(self._samples), self._is_compressed)


def ends_of(piece: bytes) -> bytes:
    """The beginning and the end of a large piece, ``SAMPLE_BYTES`` of it. A burst may begin with
    events that frame the answer and have its text behind them."""
    half = SAMPLE_BYTES // 2
    return piece[:half] + piece[-half:]
