"""What a stored response keeps beside itself outlives the process, as its own id does."""

import asyncio
from pathlib import Path

from tests.unit.ledger.test_frames import record
from tests.unit.policy.test_routing import key
from xairouter.domain.calls import Route
from xairouter.domain.records import ReplyFields
from xairouter.ledger.book import Book
from xairouter.ledger.drain import objects_of
from xairouter.ledger.folders import read_folder
from xairouter.ledger.journal import Journal
from xairouter.observe import Metrics

IDS = ("msg_1", "cntr_1")


async def test_items_are_in_the_journal_with_the_turn_of_the_loop_that_read_them(tmp_path: Path):
    journal = Journal(tmp_path / "j", max_bytes=1 << 30, sync_ms=0)
    book = Book(journal, Metrics(), lambda: 0.0, binds_early=True)
    entry = book.open(record(dialect="openai_responses"))
    await entry.attempt(Route(key("1"), "m", "openai_responses"), 1, 0)
    await entry.progress(ReplyFields(provider_object_id="resp_1", status=200))
    book.take_bound()
    entry.note(ReplyFields(object_parts=IDS, status=200))
    # Another instance is to know them before the call has ended.
    early = objects_of(book.take_bound())
    assert {one.object_id for one in early} == set(IDS)
    await asyncio.sleep(0)
    [found] = read_folder(tmp_path / "j").records()
    made = objects_of([found])
    assert {one.object_id for one in made} == {"resp_1", *IDS}
    assert {(one.account_id, one.provider_key_id) for one in made} == {("acc_1", "pk_1")}
    await journal.close()
