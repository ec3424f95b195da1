"""Fixtures that every test may use: a router in this process, the stand-in beside it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.rig import Rig, start_rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A running router with one owner, whose keys go to a stand-in provider."""
    made = await start_rig(tmp_path)
    try:
        yield made
    finally:
        await made.stop()
