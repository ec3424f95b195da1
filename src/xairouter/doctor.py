"""``xairouter doctor``: what is well, what is not, and what to do."""

import asyncio
import shutil
import ssl
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from xairouter.app import check_cryptography
from xairouter.errors import XAIRouterError
from xairouter.providers.table import PROVIDERS
from xairouter.settings import Settings
from xairouter.storage.database import Database

_FIRST_PROVIDERS = ("openai", "anthropic", "gemini")


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: ``state`` is ok, note or bad; ``says`` is a sentence with what to do."""

    what: str
    state: str
    says: str


async def examine(settings: Settings, *, offline: bool = False) -> list[Finding]:
    """Run every check, those of the network unless ``offline``; none changes anything but brings
    an old schema up to date."""
    checks: list[Callable[[Settings], Awaitable[list[Finding]]]] = [
        _cryptography,
        _database,
        _files,
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
        return [Finding("cryptography", "bad", str(error))]
    return [Finding("cryptography", "ok", "ML-KEM-768, X25519 and HPKE work.")]


async def _database(settings: Settings) -> list[Finding]:
    if not settings.database_url and not settings.data_dir.exists():
        return [Finding("database", "note", "There is none yet; serve makes it.")]
    database = Database(settings.effective_database_url)
    try:
        await database.migrate()
        damage = await database.damage()
        if damage:
            return [Finding("database", "bad", damage)]
        return [Finding("database", "ok", "It opens, its schema is current and it is undamaged.")]
    except XAIRouterError as error:
        return [Finding("database", "bad", str(error))]
    finally:
        await database.close()


async def _files(settings: Settings) -> list[Finding]:
    folder = settings.data_dir
    if not folder.exists():
        return [Finding("files", "note", f"{folder} does not exist yet; serve makes it.")]
    findings = []
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        findings.append(
            Finding("files", "note", f"Others can read {folder}; run: chmod 700 {folder}")
        )
    free = shutil.disk_usage(folder).free
    if free < settings.journal_max_bytes:
        findings.append(
            Finding("disk", "note", f"{free // 2**20} MB are free, less than the journal may use.")
        )
    return findings or [Finding("files", "ok", "The data directory is private and has room.")]


async def _clock(settings: Settings) -> list[Finding]:
    if not 1_700_000_000 < time.time() < 4_000_000_000:
        return [Finding("clock", "bad", "The clock is far off; expiry and TLS depend on it.")]
    return [Finding("clock", "ok", "It shows a plausible time.")]


async def _roots(settings: Settings) -> list[Finding]:
    count = len(ssl.create_default_context().get_ca_certs())
    paths = ssl.get_default_verify_paths()
    if count == 0 and not paths.cafile and not paths.capath:
        return [Finding("TLS roots", "bad", "There are none; install ca-certificates.")]
    return [Finding("TLS roots", "ok", "The system has certificate authorities.")]


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
            findings.append(Finding(host, "ok", "It can be reached."))
        except (OSError, TimeoutError):
            findings.append(Finding(host, "note", "It cannot be reached from here."))
    return findings
