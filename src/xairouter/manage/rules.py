"""An account's rules: read, replace, merge; a document wider than what is above it is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from xairouter.domain.accounts import Account
from xairouter.domain.rules import Rules
from xairouter.errors import ManageError
from xairouter.manage.desk import Actor, Change, Desk, change, require, within_reach
from xairouter.manage.fields import problems_of
from xairouter.manage.versions import refuse_stale
from xairouter.policy.networks import Networks, parse_network
from xairouter.policy.rules import (
    Compiled,
    compile_text,
    effective,
    read_rules,
    wider_than,
    write_rules,
)
from xairouter.storage import owners

MOST_ITEMS = 2000
MOST_PATTERNS = 1000
MOST_NUMBER = 10**15


def _network(text: str) -> str:
    try:
        return str(parse_network(text))
    except ValueError:
        raise ValueError("must be an address or a network such as 10.0.0.0/8") from None


def _name(text: str) -> str:
    if not 0 < len(text) <= 256 or not text.isprintable():
        raise ValueError("must have 1 to 256 visible characters")
    return text


def _path(text: str) -> str:
    path = text.rstrip("/") or "/"
    parts = path.split("/")
    if not text.startswith("/") or len(text) > 256 or not text.isprintable():
        raise ValueError("must be a path such as /v1/chat/completions")
    if "" in parts[1:] or "." in parts or ".." in parts or "%" in path or "*" in path:
        raise ValueError("must be a plain path: no dots, escapes, stars or empty parts")
    return path


Number = Annotated[int, Field(ge=0, le=MOST_NUMBER, strict=True)]
Usd = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Names = Annotated[list[Annotated[str, AfterValidator(_name)]], Field(max_length=MOST_ITEMS)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LimitsBody(_Body):
    """Requests and tokens per minute, hour and day; calls at one time. null: inherited."""

    rpm: Number | None = None
    rph: Number | None = None
    rpd: Number | None = None
    tpm: Number | None = None
    tph: Number | None = None
    tpd: Number | None = None
    concurrency: Number | None = None


class BudgetBody(_Body):
    """US dollars per calendar day, calendar month, and in total; ``notify_at`` is a share."""

    day_usd: Usd | None = None
    month_usd: Usd | None = None
    total_usd: Usd | None = None
    notify_at: Annotated[float, Field(gt=0, le=1)] | None = None


class RulesBody(_Body):
    """The rules document; what is missing or null is inherited, an empty list allows nothing."""

    allow_ips: (
        Annotated[list[Annotated[str, AfterValidator(_network)]], Field(max_length=MOST_ITEMS)]
        | None
    ) = None
    allow_models: Names | None = None
    allow_paths: (
        Annotated[list[Annotated[str, AfterValidator(_path)]], Field(max_length=200)] | None
    ) = None
    allow_levels: (
        Annotated[
            list[Annotated[int, Field(ge=1, le=1_000_000, strict=True)]], Field(max_length=200)
        ]
        | None
    ) = None
    limits: LimitsBody | None = None
    model_limits: (
        Annotated[
            dict[Annotated[str, AfterValidator(_name)], LimitsBody | None], Field(max_length=200)
        ]
        | None
    ) = None
    budget: BudgetBody | None = None
    model_map: (
        Annotated[
            dict[Annotated[str, AfterValidator(_name)], Annotated[str, AfterValidator(_name)]],
            Field(max_length=500),
        ]
        | None
    ) = None
    max_output_tokens: Number | None = None

    @model_validator(mode="after")
    def _bounded(self) -> "RulesBody":
        patterns = sum("*" in name for name in self.allow_models or ())
        if patterns > MOST_PATTERNS:
            raise ValueError(f"allow_models has at most {MOST_PATTERNS} patterns")
        for target in (self.model_map or {}).values():
            if "*" in target:
                raise ValueError("model_map maps to a name, which has no star")
        return self


def checked(document: Mapping[str, Any]) -> Rules:
    """A document as values; raises ManageError with the fields that are wrong."""
    try:
        body = RulesBody.model_validate(document)
    except ValidationError as error:
        failed = problems_of(error)
    else:
        return read_rules(body.model_dump(exclude_none=True))
    raise failed


async def show_rules(desk: Desk, actor: Actor, account_id: str) -> dict[str, Any]:
    """``own``, ``effective`` and ``sources``: what is said here, what holds, and whose it is."""
    require(actor, "rules.read")
    async with desk.database.read() as connection:
        chain = await within_reach(connection, actor, "rules.read", account_id)
    return rules_view(chain)


async def put_rules(
    desk: Desk,
    actor: Actor,
    account_id: str,
    document: dict[str, Any],
    expected: str | None = None,
) -> dict[str, Any]:
    """Replace an account's own rules; ``expected`` is the version of them that was seen."""
    wanted = checked(document)
    async with change(desk, actor, "rules.change", account_id) as made:
        chain = await within_reach(made.connection, actor, "rules.change", account_id)
        refuse_stale(expected, own_rules(chain[-1]))
        return await _store(made, actor, chain, wanted)


async def patch_rules(
    desk: Desk,
    actor: Actor,
    account_id: str,
    patch: dict[str, Any],
    expected: str | None = None,
) -> dict[str, Any]:
    """Merge into an account's own rules (JSON merge patch, RFC 7396): null inherits again."""
    async with change(desk, actor, "rules.change", account_id) as made:
        chain = await within_reach(made.connection, actor, "rules.change", account_id)
        own = own_rules(chain[-1])
        refuse_stale(expected, own)
        return await _store(made, actor, chain, checked(merged(own, patch)))


def merged(document: Any, patch: Any) -> Any:
    """RFC 7396: objects merge, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    found = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


async def _store(
    made: Change, actor: Actor, chain: tuple[Account, ...], wanted: Rules
) -> dict[str, Any]:
    account = chain[-1]
    refuse_wider(wanted, chain[:-1])
    if account.id == actor.caller.account.id and wanted.allow_ips is not None:
        _keep_own_door_open(actor, wanted.allow_ips)
    before = compile_text(account.rules).rules
    text = stored_text(wanted)
    await owners.update_account(made.connection, actor.owner_id, account.id, rules=text)
    made.detail = {"before": write_rules(before), "after": write_rules(wanted)}
    fresh = await owners.chain_of(made.connection, actor.owner_id, account.id)
    return rules_view(fresh)


def stored_text(rules: Rules) -> str:
    """Rules as they are stored."""
    return msgspec.json.encode(write_rules(rules)).decode()


def refuse_wider(wanted: Rules, above: Sequence[Account]) -> None:
    """Raises ManageError ``wider_than_parent``, with the ancestor and the rule that forbid it."""
    found = wider_than(wanted, compiled(above))
    if not found:
        return
    first = found[0]
    raise ManageError(
        "wider_than_parent",
        f"{first.rule} would be wider ({first.what[:80]}) than the account "
        f"“{first.account.name}” ({first.account.id}) above allows.",
        {one.rule[:200]: f"{one.what[:80]}: wider than {one.account.id}" for one in found[:20]},
    )


def _keep_own_door_open(actor: Actor, allow_ips: Sequence[str]) -> None:
    """Nobody locks themselves out with the very request that shuts the door."""
    if not Networks(allow_ips).has(actor.client_ip):
        raise ManageError(
            "invalid_field",
            f"This would shut out the address that you ask from ({actor.client_ip}).",
            {"allow_ips": "must hold the address of whoever sets it on their own account"},
        )


def compiled(chain: Sequence[Account]) -> list[tuple[Account, Compiled]]:
    """Each account with its own rules compiled."""
    return [(account, compile_text(account.rules)) for account in chain]


def own_rules(account: Account) -> dict[str, Any]:
    """An account's own rules document."""
    return write_rules(compile_text(account.rules).rules)


async def preview_rules(
    desk: Desk, actor: Actor, account_id: str, document: dict[str, Any]
) -> dict[str, Any]:
    """What an account's rules would be, or, raised, why they could not be; nothing is played."""
    require(actor, "rules.change")
    wanted = checked(document)
    async with desk.database.read() as connection:
        chain = await within_reach(connection, actor, "rules.change", account_id)
    refuse_wider(wanted, chain[:-1])
    return rules_view((*chain[:-1], replace(chain[-1], rules=stored_text(wanted))))


def rules_view(chain: Sequence[Account]) -> dict[str, Any]:
    """For the faces: the last account's own rules, the effective ones, and their sources."""
    whole, sources = effective(compiled(chain))
    return {
        "own": own_rules(chain[-1]),
        "effective": write_rules(whole),
        "sources": [
            {"rule": one.rule, "account_id": one.account.id, "account": one.account.name}
            for one in sources
        ],
    }
