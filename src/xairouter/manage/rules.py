"""An account's rules: read, replace, merge; a document wider than what is above it is refused."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, TypedDict

import msgspec
from pydantic import AfterValidator, Field, model_validator

from xairouter.domain.accounts import Account
from xairouter.domain.calls import LONGEST_MODEL
from xairouter.domain.permissions import Permission
from xairouter.domain.rules import Rules
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.desk import Actor, Change, Desk, change, require, within_reach
from xairouter.manage.fields import Document, at_most, validated
from xairouter.manage.versions import refuse_stale
from xairouter.policy.networks import Networks, parse_network
from xairouter.policy.patterns import MOST_STARS
from xairouter.policy.routing import is_model_name
from xairouter.policy.rules import (
    Compiled,
    RulesDocument,
    Source,
    Wider,
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
MOST_AT_ONCE = 500
"""Limits and budgets of a path that can count one call."""


def _network(text: str) -> str:
    try:
        return str(parse_network(text))
    except ValueError:
        raise ValueError("must be an address or a network such as 10.0.0.0/8") from None


def _name(text: str) -> str:
    if not 0 < len(text) <= LONGEST_MODEL or not text.isprintable():
        raise ValueError(f"must have 1 to {LONGEST_MODEL} visible characters")
    if text.count("*") > MOST_STARS:
        raise ValueError(f"has at most {MOST_STARS} stars")
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
Usd = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False, strict=True)]
Names = Annotated[
    list[Annotated[str, AfterValidator(_name)]], Field(fail_fast=True, max_length=MOST_ITEMS)
]


class LimitsBody(Document):
    """Requests and tokens per minute, hour and day; calls at one time. null: inherited."""

    rpm: Number | None = None
    rph: Number | None = None
    rpd: Number | None = None
    tpm: Number | None = None
    tph: Number | None = None
    tpd: Number | None = None
    concurrency: Number | None = None


class BudgetBody(Document):
    """US dollars per calendar day, calendar month, and in total; ``notify_at`` is a share."""

    day_usd: Usd | None = None
    month_usd: Usd | None = None
    total_usd: Usd | None = None
    notify_at: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None


class RulesBody(Document):
    """The rules document; what is missing or null is inherited, an empty list allows nothing."""

    allow_ips: (
        Annotated[
            list[Annotated[str, AfterValidator(_network)]],
            Field(fail_fast=True, max_length=MOST_ITEMS),
        ]
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
            dict[Annotated[str, AfterValidator(_name)], LimitsBody | None],
            Field(max_length=200),
            at_most(200),
        ]
        | None
    ) = None
    budget: BudgetBody | None = None
    model_map: (
        Annotated[
            dict[Annotated[str, AfterValidator(_name)], Annotated[str, AfterValidator(_name)]],
            Field(max_length=500),
            at_most(500),
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
            if not is_model_name(target):
                raise ValueError("model_map maps to a name, which has no segment of dots")
        return self


class SourceView(TypedDict):
    """Whose a part of the effective rules is."""

    rule: str
    account_id: str
    account: str


class RulesView(TypedDict):
    """What is said at an account, what holds for it, and whose each part is."""

    own: RulesDocument
    effective: RulesDocument
    sources: list[SourceView]


def checked(document: object) -> Rules:
    """A document as values; raises ManageError with the fields that are wrong."""
    return read_rules(validated(RulesBody, document).model_dump(exclude_none=True))


async def show_rules(desk: Desk, actor: Actor, account_id: str) -> RulesView:
    """An account's rules."""
    require(actor, Permission.RULES_READ)
    async with desk.database.read() as connection:
        chain = await within_reach(connection, actor, Permission.RULES_READ, account_id)
    return await shown_rules(chain)


async def put_rules(
    desk: Desk,
    actor: Actor,
    account_id: str,
    document: Mapping[str, object],
    expected: str | None = None,
) -> RulesView:
    """Replace an account's own rules; ``expected`` is the version of them that was seen."""
    wanted = checked(document)
    await prove_ahead(
        desk, actor, Permission.RULES_CHANGE, account_id, lambda chain: (wanted, chain[:-1])
    )
    async with change(desk, actor, Permission.RULES_CHANGE, account_id) as made:
        chain = await within_reach(made.connection, actor, Permission.RULES_CHANGE, account_id)
        refuse_stale(expected, own_rules(chain[-1]))
        fresh = await _store(made, actor, chain, wanted)
    return await shown_rules(fresh)


async def patch_rules(
    desk: Desk,
    actor: Actor,
    account_id: str,
    patch: Mapping[str, object],
    expected: str | None = None,
) -> RulesView:
    """Merge into an account's own rules (JSON merge patch, RFC 7396): null inherits again."""
    await prove_ahead(
        desk,
        actor,
        Permission.RULES_CHANGE,
        account_id,
        lambda chain: (checked(merged(own_rules(chain[-1]), patch)), chain[:-1]),
    )
    async with change(desk, actor, Permission.RULES_CHANGE, account_id) as made:
        chain = await within_reach(made.connection, actor, Permission.RULES_CHANGE, account_id)
        own = own_rules(chain[-1])
        refuse_stale(expected, own)
        fresh = await _store(made, actor, chain, checked(merged(own, patch)))
    return await shown_rules(fresh)


def merged(document: object, patch: object) -> object:
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
) -> tuple[Account, ...]:
    account = chain[-1]
    refuse_wider(wanted, chain[:-1])
    if account.id == actor.caller.account.id and wanted.allow_ips is not None:
        _keep_own_door_open(actor, wanted.allow_ips)
    before = compile_text(account.rules).rules
    text = stored_text(wanted)
    await owners.update_account(made.connection, actor.owner_id, account.id, rules=text)
    made.detail = {"before": write_rules(before), "after": write_rules(wanted)}
    return await owners.chain_of(made.connection, actor.owner_id, account.id)


def stored_text(rules: Rules) -> str:
    """Rules as they are stored."""
    return msgspec.json.encode(write_rules(rules)).decode()


async def prove_ahead(
    desk: Desk,
    actor: Actor,
    verb: Permission,
    account_id: str,
    question: Callable[[tuple[Account, ...]], tuple[Rules, tuple[Account, ...]]],
) -> None:
    """Ask what ``refuse_wider`` will ask inside the transaction, before it and off the event loop.

    ``question`` makes of the account's chain the rules and the accounts above them. What the
    transaction would refuse is left to it.
    """
    try:
        async with desk.database.read() as connection:
            chain = await within_reach(connection, actor, verb, account_id)
        wanted, above = question(chain)
    except ManageError:
        return
    await asyncio.to_thread(_wider, stored_text(wanted), above)


@lru_cache(maxsize=64)
def _wider(text: str, above: tuple[Account, ...]) -> tuple[Wider, ...]:
    """Found out once: the steps of the proof are bounded, and many all the same."""
    return tuple(wider_than(compile_text(text).rules, compiled(above)))


def refuse_wider(wanted: Rules, above: Sequence[Account]) -> None:
    """Raises ManageError ``wider_than_parent``, with the ancestor and the rule that forbid it, and
    ``invalid_field`` where too many limits of the path would count one call."""
    rules = [wanted, *(made.rules for _, made in compiled(above))]
    at_once = sum(map(_counting_one_call, rules))
    if at_once > MOST_AT_ONCE and _counting_one_call(wanted):
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            f"Up to {at_once} limits and budgets, of this account and those above it, would count "
            f"each call; at most {MOST_AT_ONCE} may.",
            {"model_limits": f"with those above: at most {MOST_AT_ONCE} for one model"},
        )
    found = _wider(stored_text(wanted), tuple(above))
    if not found:
        return
    first = found[0]
    raise ManageError(
        ErrorCode.WIDER_THAN_PARENT,
        f"{first.rule} would be wider ({first.what[:80]}) than the account "
        f"“{first.account.name}” ({first.account.id}) above allows.",
        {one.rule[:200]: f"{one.what[:80]}: wider than {one.account.id}" for one in found[:20]},
    )


def _counting_one_call(rules: Rules) -> int:
    """How many limits and budgets of one account can count the same call, at most: each pattern
    may match its model, and one exact name."""
    by_pattern = {name: len(some.items()) for name, some in rules.model_limits.items()}
    patterns = sum(count for name, count in by_pattern.items() if "*" in name)
    exact = max((count for name, count in by_pattern.items() if "*" not in name), default=0)
    return len(rules.limits.items()) + len(rules.budget.items()) + patterns + exact


def _keep_own_door_open(actor: Actor, allow_ips: Sequence[str]) -> None:
    """Nobody locks themselves out with the very request that shuts the door."""
    if not Networks(allow_ips).has(actor.client_ip):
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            f"This would shut out the address that you ask from ({actor.client_ip}).",
            {"allow_ips": "must hold the address of whoever sets it on their own account"},
        )


def compiled(chain: Sequence[Account]) -> list[tuple[Account, Compiled]]:
    """Each account with its own rules compiled."""
    return [(account, compile_text(account.rules)) for account in chain]


def own_rules(account: Account) -> RulesDocument:
    """An account's own rules document."""
    return write_rules(compile_text(account.rules).rules)


async def preview_rules(
    desk: Desk, actor: Actor, account_id: str, document: Mapping[str, object]
) -> RulesView:
    """What an account's rules would be, or, raised, why they could not be; nothing is played."""
    require(actor, Permission.RULES_CHANGE)
    wanted = checked(document)
    async with desk.database.read() as connection:
        chain = await within_reach(connection, actor, Permission.RULES_CHANGE, account_id)
    await asyncio.to_thread(refuse_wider, wanted, chain[:-1])
    return await shown_rules((*chain[:-1], replace(chain[-1], rules=stored_text(wanted))))


async def shown_rules(chain: Sequence[Account]) -> RulesView:
    """``rules_view``, found out off the event loop: long lists take their time."""
    return await asyncio.to_thread(rules_view, chain)


@lru_cache(maxsize=64)
def _effective(chain: tuple[Account, ...]) -> tuple[Rules, list[Source]]:
    return effective(compiled(chain))


def rules_view(chain: Sequence[Account]) -> RulesView:
    """For the faces: the last account's own rules, the effective ones, and their sources."""
    whole, sources = _effective(tuple(chain))
    return {
        "own": own_rules(chain[-1]),
        "effective": write_rules(whole),
        "sources": [
            {"rule": one.rule, "account_id": one.account.id, "account": one.account.name}
            for one in sources
        ],
    }
