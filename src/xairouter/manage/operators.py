"""The operator's pages: a one-time link of the command line opens a session without any vault.

Whoever may run the command on the installation is the operator. The session sees owners, and may
invite, suspend, resume and delete them; no key and no call of theirs is within its reach.
"""

from xairouter.clock import now_ms
from xairouter.custody.formats import link_hash, new_link_token
from xairouter.domain.accounts import Account
from xairouter.domain.slots import AHEAD_MS
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import owners
from xairouter.manage.desk import Desk
from xairouter.manage.links import INVITE, Link, make_link
from xairouter.manage.views import AccountView, account_view
from xairouter.storage import links, operator_sessions
from xairouter.storage.database import Database

OPERATOR = "operator"
LINK_MS = 30 * 60_000
SESSION_MS = 4 * 3_600_000
SECURE_COOKIE, PLAIN_COOKIE = "__Host-xairouter-operator", "xairouter-operator"


async def make_operator_link(database: Database) -> str:
    """The token of a link to the operator's pages; the one before stops working."""
    token = new_link_token()
    async with database.write() as connection:
        await links.drop_purpose(connection, OPERATOR)
        await links.add(
            connection,
            token_hash=link_hash(token),
            purpose=OPERATOR,
            account_id="",
            name=None,
            email=None,
            expires_at_ms=now_ms() + LINK_MS,
        )
    return token


async def is_operator_link(database: Database, token: str) -> bool:
    """Whether a link would open the operator's pages. Uses nothing up."""
    async with database.read() as connection:
        row = await links.get(connection, link_hash(token))
    if row is None or row["purpose"] != OPERATOR:
        return False
    now = now_ms()
    return now < int(row["expires_at_ms"]) <= now + LINK_MS + AHEAD_MS


async def open_operator_session(database: Database, token: str) -> str:
    """Use a link up and open a session of four hours; returns the session's token."""
    if not await is_operator_link(database, token):
        raise ManageError(ErrorCode.NOT_FOUND, "This link was used already, or is too old.")
    session = new_link_token()
    async with database.write() as connection:
        if not await links.take(connection, link_hash(token)):
            raise ManageError(ErrorCode.NOT_FOUND, "This link was used already, or is too old.")
        await operator_sessions.drop_expired(connection, now_ms())
        await operator_sessions.add(connection, link_hash(session), now_ms() + SESSION_MS)
    return session


async def is_operator(database: Database, session: str) -> bool:
    """Whether a session's token is a living operator's."""
    if not session:
        return False
    async with database.read() as connection:
        now = now_ms()
        return await operator_sessions.is_living(
            connection, link_hash(session), now, now + SESSION_MS + AHEAD_MS
        )


async def close_operator_session(database: Database, session: str) -> None:
    async with database.write() as connection:
        await operator_sessions.drop(connection, link_hash(session))


async def show_owners(desk: Desk) -> list[AccountView]:
    """Every owner, as an operator may see it: names and states, nothing of keys or calls."""
    return [account_view(account) for account in await owners.list_owners(desk.database)]


async def invite_owner(desk: Desk, name: str, email: str | None) -> tuple[Link, str]:
    """A link at which a new owner comes into being and alone sees its secrets."""
    return await make_link(desk.database, INVITE, owners.checked_name(name), email or None)


async def suspend_owner(desk: Desk, owner_id: str, *, suspended: bool) -> Account:
    found = await owners.suspend_owner(
        desk.database, await _known(desk, owner_id), suspended=suspended
    )
    await desk.directory.changed(found.id)
    return found


async def delete_owner(desk: Desk, owner_id: str) -> Account:
    found = await owners.delete_owner(desk.database, await _known(desk, owner_id))
    await desk.directory.changed(found.id)
    return found


async def _known(desk: Desk, owner_id: str) -> str:
    """An id, and no name: here nothing is typed by hand."""
    if owner_id not in {account.id for account in await owners.list_owners(desk.database)}:
        raise ManageError(ErrorCode.NOT_FOUND, f"There is no owner “{owner_id[:64]}”.")
    return owner_id
