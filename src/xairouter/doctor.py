"""``xairouter doctor``: what is well, what is not, and what to do."""

import asyncio
import shutil
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from xairouter.custody.derive import check_cryptography
from xairouter.custody.witness import Witness
from xairouter.errors import XAIRouterError
from xairouter.ledger.salvage import damage_of, set_aside
from xairouter.locks import holders, lock_files
from xairouter.manage.opening import open_database
from xairouter.process import allow_descriptors, open_to_others
from xairouter.providers.table import PROVIDERS
from xairouter.settings import Settings
from xairouter.storage.database import Database

DESCRIPTORS_BESIDE_CALLS = 200
"""The database, the journal, threads, idle connections; a call takes one to its client and one to its
provider."""
_FIRST_PROVIDERS = ("openai", "anthropic", "gemini")


class State(StrEnum):
    """What a check found; NOTE is nothing to repair."""

    OK = "ok"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check; ``says`` is a sentence with what to do."""

    what: str
    state: State
    says: str


async def examine(settings: Settings, *, offline: bool = False) -> list[Finding]:
    """Run every check, those of the network unless ``offline``; none changes anything but brings
    an old schema up to date."""
    checks: list[Callable[[Settings], Awaitable[list[Finding]]]] = [
        _cryptography,
        _database,
        _files,
        _witness,
        _router,
        _journal,
        _descriptors,
        _clock,
        _roots,
    ]
    if not offline:
        checks.append(_reach)
    return [finding for check in checks for finding in await check(settings)]


async def _cryptography(settings: Settings) -> list[Finding]:
    try:
        check_cryptography()
    except XAIRouterError as error:
        return [Finding("cryptography", State.BAD, str(error))]
    return [Finding("cryptography", State.OK, "ML-KEM-768, X25519 and HPKE work.")]


async def _database(settings: Settings) -> list[Finding]:
    if not settings.database_url and not settings.data_dir.exists():
        return [Finding("database", State.NOTE, "There is none yet; serve makes it.")]
    database = Database(settings.effective_database_url)
    try:
        await open_database(database, Witness(settings.witness_file), settings.shown_database)
        lacking = await database.lacking()
        if lacking:
            named = ", ".join(lacking[:5])
            says = f"Its schema says that it is current, and lacks {named}; restore a backup."
            return [Finding("database", State.BAD, says)]
        damage = await database.damage()
        if damage:
            return [Finding("database", State.BAD, damage)]
        return [
            Finding("database", State.OK, "It opens, its schema is current and it is undamaged.")
        ]
    except XAIRouterError as error:
        return [Finding("database", State.BAD, str(error))]
    finally:
        await database.close()


async def _files(settings: Settings) -> list[Finding]:
    folder = settings.data_dir
    if not folder.exists():
        return [Finding("files", State.NOTE, f"{folder} does not exist yet; serve makes it.")]
    findings = []
    others = open_to_others(folder)
    if others:
        named = ", ".join(str(path) for path in others[:5])
        findings.append(
            Finding(
                "files", State.BAD, f"Others may read or write {named}; run: chmod -R go= {folder}"
            )
        )
    free = shutil.disk_usage(folder).free
    if free < settings.journal_max_bytes:
        findings.append(
            Finding(
                "disk", State.NOTE, f"{free // 2**20} MB are free, less than the journal may use."
            )
        )
    return findings or [Finding("files", State.OK, "The data directory is private and has room.")]


async def _witness(settings: Settings) -> list[Finding]:
    witness = Witness(settings.witness_file)
    count, places = witness.owners, witness.damaged
    if places:
        where = ", ".join(map(str, places[:5])) + (", …" if len(places) > 5 else "")
        says = (
            f"{settings.witness_file} is damaged: no note can be read in the lines from byte {where} "
            "on. Whose notes these were is not known, and their vaults are believed as they are found. "
            "Look at the disk, put a copy of the file in its place, or remove these lines."
        )
        return [Finding("vault witness", State.BAD, says)]
    return [Finding("vault witness", State.OK, f"It knows {count} owners and is undamaged.")]


async def _router(settings: Settings) -> list[Finding]:
    files = lock_files(settings.data_dir, settings.database_file)
    named = " and ".join(dict.fromkeys(who for path in files for who in holders(path)))
    return [Finding("router", State.OK, f"It runs: {named}." if named else "None runs here now.")]


async def _journal(settings: Settings) -> list[Finding]:
    findings = []
    for path in set_aside(settings.data_dir / "journal"):
        places = damage_of(path)
        where = ", ".join(f"{gap.size} bytes from byte {gap.at} on" for gap in places[:5])
        more = f", and {len(places) - 5} other places" if len(places) > 5 else ""
        says = (
            f"{path} was damaged on disk ({where}{more}). What could be read around that is stored. "
            "Look at the disk, then remove the file."
        )
        findings.append(Finding("journal", State.BAD, says))
    return findings or [Finding("journal", State.OK, "No damaged file is kept.")]


async def _descriptors(settings: Settings) -> list[Finding]:
    may, needed = allow_descriptors(), DESCRIPTORS_BESIDE_CALLS + 2 * settings.max_running
    if may < needed:
        says = (
            f"{may} files and connections may be open, but {settings.max_running} calls "
            f"(XAIROUTER_MAX_RUNNING) need {needed}: raise the hard limit (ulimit -Hn, LimitNOFILE)."
        )
        return [Finding("file descriptors", State.NOTE, says)]
    return [Finding("file descriptors", State.OK, f"serve raises its own limit to {may}.")]


async def _clock(settings: Settings) -> list[Finding]:
    if not 1_700_000_000 < time.time() < 4_000_000_000:
        return [Finding("clock", State.BAD, "The clock is far off; expiry and TLS depend on it.")]
    return [Finding("clock", State.OK, "It shows a plausible time.")]


async def _roots(settings: Settings) -> list[Finding]:
    count = len(ssl.create_default_context().get_ca_certs())
    paths = ssl.get_default_verify_paths()
    if count == 0 and not paths.cafile and not paths.capath:
        return [Finding("TLS roots", State.BAD, "There are none; install ca-certificates.")]
    return [Finding("TLS roots", State.OK, "The system has certificate authorities.")]


async def _reach(settings: Settings) -> list[Finding]:
    """A TLS handshake with the first providers; being offline is a note, not a fault."""
    findings = []
    for name in _FIRST_PROVIDERS:
        url = next(iter(PROVIDERS[name].endpoints.values()))
        host = url.split("/")[2]
        try:
            async with asyncio.timeout(5):
                _, writer = await asyncio.open_connection(
                    host, 443, ssl=ssl.create_default_context()
                )
            writer.close()
            findings.append(Finding(host, State.OK, "It can be reached."))
        except (OSError, TimeoutError):
            findings.append(Finding(host, State.NOTE, "It cannot be reached from here."))
    return findings
