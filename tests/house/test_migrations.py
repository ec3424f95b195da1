"""Migrations are never edited: a database that one has gone through never sees what was changed."""

from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "src" / "xairouter" / "storage" / "migrations" / "versions"
MADE = {
    "0001_first_schema": "ccb5a8bc8193c3be2631cd69bdd45dd7fcc69dcb77f9586cc492961b6e15a1f2",
    "0002_one_time_links": "97ac829c6582f2e77236952682419f1d63b3d6f2c3fb0a82d5f9b78a187c0906",
    "0003_notices": "82a54f93b0eae23cf00e3a2dae03d9222be3db275d776f32f7f9e054a6ed33e2",
    "0004_console": "67c84217a73c3ef7c76613eedc24bff17d46b5de66de8f08032ef5dec7bcfd50",
    "0005_usage_sums": "8495b498417c43eec8f6e6923e113bcbcf60776fd6578e95c3308402ac4fb2f4",
    "0006_successions": "2381f6755c7f4cf194b1d3908225bef1c9d80d9b721d6769c1518fa3bbea28de",
    "0007_panic": "e59ecbfdf730fba0585578afe4f55941234a1390b965007ab74901c7fd914bc9",
    "0008_counted": "e30c1ef4fb81f46173570a818e746c7d3ed3689417d0ecd4fea60c610bdd6ec3",
    "0009_longer_object_ids": "082912111812c96fc4a7d978d4ff8710ab56fe9f893a116158071ade0717a042",
    "0010_settlements": "d3cb613db5e0227bae0c6d5601a417526fae2629273f3efee9103c53b4d5c63e",
    "0011_counted_in_all": "ec71e1e75089ca3bc3af29221fdc061bdd90ba23ea6d1c3bfca06074b584bfcc",
    "0012_chain_points": "e0d4c6f8bbec8d8f56d07fae2b193bc1898e00005ccde05334e5e70871f504a8",
    "0013_smaller_chain": "6c25f53b479ea482c021fe98bb7f77e153e05db8e11ba2ec404f8423514f5d58",
}
"""A new migration is added here; the hash of an old one never changes."""


def test_no_migration_was_edited_or_taken_away():
    found = {
        path.stem: sha256(path.read_bytes()).hexdigest()
        for path in sorted(FOLDER.glob("[0-9]*.py"))
    }
    assert found == MADE
