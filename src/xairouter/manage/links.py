"""One-time links: whoever opens one at a browser becomes an owner, and alone sees the secrets.

A link carries 256 bits by chance and is stored as a hash only; it works once, within 24 hours.
"""

from dataclasses import dataclass, replace

from xairouter.clock import fresh_id, now_ms
from xairouter.custody.formats import link_hash, new_link_token
from xairouter.custody.witness import Witness
from xairouter.domain.slots import AHEAD_MS
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.owners import Secrets, checked_name, store_owner
from xairouter.storage import links, owners
from xairouter.storage.database import Database

LIFE_MS = 24 * 3_600_000
SETUP, INVITE = "setup", "invite"


@dataclass(frozen=True, slots=True)
class Link:
    """What a living link is for: the account that will be, and its name if that was given."""

    purpose: str
    account_id: str
    name: str | None
    email: str | None
    expires_at_ms: int


async def make_link(
    database: Database, purpose: str, name: str | None = None, email: str | None = None
) -> tuple[Link, str]:
    """A new link and its token; a set-up link takes the place of the one before.

    Raises ManageError ``conflict`` where an owner of that name exists, or, for a set-up link, any.
    """
    if name is not None:
        name = checked_name(name)
    token = new_link_token()
    now = now_ms()
    link = Link(purpose, fresh_id("acc"), name, email, now + LIFE_MS)
    async with database.write() as connection:
        existing = await owners.list_owners(connection)
        if purpose == SETUP and existing:
            raise ManageError(ErrorCode.CONFLICT, "There is an owner already; invite further ones.")
        if any(owner.name == name for owner in existing):
            raise ManageError(ErrorCode.CONFLICT, f"There is an owner called “{name}” already.")
        await links.drop_expired(connection, now)
        if purpose == SETUP:
            await links.drop_purpose(connection, SETUP)
        await links.add(
            connection,
            token_hash=link_hash(token),
            purpose=purpose,
            account_id=link.account_id,
            name=name,
            email=email,
            expires_at_ms=link.expires_at_ms,
        )
    return link, token


async def first_link(database: Database, *, is_shared: bool) -> str | None:
    """Where nobody is an owner yet: the token of a link that makes the first one.

    None where several instances share the database and one of them has printed a link that still
    works: a second one would end it.
    """
    async with database.read() as connection:
        if await owners.list_owners(connection):
            return None
        now = now_ms()
        latest = now + LIFE_MS + AHEAD_MS
        if is_shared and await links.has_living(connection, SETUP, now, latest):
            return None
    _, token = await make_link(database, SETUP)
    return token


async def find_link(database: Database, token: str) -> Link | None:
    """What a token is for, None if it is none, used up or too old. Uses nothing up."""
    async with database.read() as connection:
        row = await links.get(connection, link_hash(token))
    if row is None or row["purpose"] not in (SETUP, INVITE):
        return None
    now = now_ms()
    if not now < row["expires_at_ms"] <= now + LIFE_MS + AHEAD_MS:
        return None
    return Link(row["purpose"], row["account_id"], row["name"], row["email"], row["expires_at_ms"])


async def redeem(
    database: Database, witness: Witness, token: str, name: str, email: str | None
) -> Secrets:
    """Use a link up and make its owner; raises ManageError, and then the link lives on."""
    link = await find_link(database, token)
    if link is None:
        raise ManageError(ErrorCode.NOT_FOUND, "This link was used already, or is too old.")
    link = replace(link, name=checked_name(link.name or name), email=link.email or email)
    async with database.write() as connection:
        # Whoever is first has it: the row is gone for the other.
        if not await links.take(connection, link_hash(token)):
            raise ManageError(ErrorCode.NOT_FOUND, "This link was used already, or is too old.")
        assert link.name is not None
        made, vault = await store_owner(
            connection, link.account_id, link.name, link.email, seen_by_operator=False
        )
    witness.note(vault)
    return made
