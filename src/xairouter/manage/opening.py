"""Opening an installation's database: made where there is none, unless it must have got lost."""

from pathlib import Path

from xairouter.custody.witness import Witness
from xairouter.errors import ConfigError
from xairouter.observe import log
from xairouter.storage.database import Database


async def open_database(database: Database, witness: Witness, place: str) -> None:
    """Bring the schema up to date. Raises ConfigError where there is none and the witness knows vaults:
    what starts as a new installation then would lock every owner out."""
    known = witness.owners + len(witness.damaged)
    if known and await database.is_new():
        raise ConfigError(
            [
                f"There is no database at {place}, but the vault-witness beside the journal knows "
                f"{known} owners: the database is missing. Restore a backup, or set "
                "XAIROUTER_DATABASE_URL right; for a new installation move vault-witness away."
            ]
        )
    await database.migrate()


def open_witness(path: Path) -> Witness:
    """What is known of vaults here; the log is told of lines of the file that are damaged."""
    witness = Witness(path)
    witness.read()
    if witness.damaged:
        log.error("witness_damaged", file=str(path), at=witness.damaged[:20])
    return witness


def write_witness(witness: Witness) -> None:
    """Write what was noted and could not be written then; log why that is not possible now."""
    failure = witness.write()
    if failure:
        log.error("witness_write_failed", reason=failure)
