"""A proposal brought in through the management API, part by part.

What is already there stays as it is, so that a second run adds only what is missing; a part that
is refused is told and does not hold up the others.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from xairouter.domain.accounts import AccountStatus
from xairouter.errors import ConfigError, UpstreamError
from xairouter.imports.proposal import CHANGED, LEFT_OUT, MAPPED, KeyWish, Line, Proposal, Source
from xairouter.upstream.egress import Egress
from xairouter.upstream.http_client import HttpClient, opened
from xairouter.upstream.interface import Limits, WireRequest, whole

_LIMITS = Limits(connect=10, first_byte=60)
FindSecret = Callable[[KeyWish], str | None]
"""A provider key's secret; None: there is none, and nobody to ask."""


@dataclass(slots=True)
class Done:
    """What became of a proposal: ``made`` holds new accounts with their XAI API keys, shown once."""

    lines: list[Line] = field(default_factory=list)
    made: list[dict[str, str]] = field(default_factory=list)
    failed: int = 0

    def say(self, what: str, says: str, *, state: str = MAPPED) -> None:
        self.lines.append(Line(state, what, says))

    def fail(self, what: str, says: str) -> None:
        self.failed += 1
        self.lines.append(Line("failed", what, says))


class _RefusedError(Exception):
    """The router's own sentence."""


def checked_url(url: str) -> str:
    """Where the router is; raises ConfigError where secrets would travel in the clear."""
    parts = urlsplit(url)
    is_near = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError([f"“{url}” is no address of a router such as http://127.0.0.1:8080."])
    if parts.scheme == "http" and not is_near:
        raise ConfigError(["Provider keys are sent over https only, except to this machine."])
    return url.rstrip("/")


async def bring_in(proposal: Proposal, url: str, api_key: str, find_secret: FindSecret) -> Done:
    """Bring everything in as the owner whose XAI API key it is."""
    try:
        async with opened(Egress(allow_private=True)) as client:
            return await _Work(proposal, Router(client, checked_url(url), api_key)).run(find_secret)
    except UpstreamError:
        raise ConfigError([f"The router at {url} does not answer."]) from None


@dataclass(frozen=True, slots=True)
class Router:
    """The management API of a running router."""

    client: HttpClient
    url: str
    api_key: str = field(repr=False)

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Raises ``_RefusedError`` with the problem's sentence."""
        headers = (
            ("authorization", f"Bearer {self.api_key}"),
            ("content-type", "application/json"),
        )
        data = b"" if body is None else json.dumps(body).encode()
        request = WireRequest(method, f"{self.url}/api/v1{path}", headers, data)
        reply = await self.client.send("router", request, _LIMITS)
        try:
            shown = json.loads(await whole(reply))
        except ValueError:
            shown = None
        if reply.status >= 300 or shown is None:
            detail = shown.get("detail") if isinstance(shown, Mapping) else None
            raise _RefusedError(detail or f"the answer was {reply.status}")
        return shown

    async def all(self, path: str) -> list[Any]:
        """Every item of a list."""
        items: list[Any] = []
        mark = "&" if "?" in path else "?"
        cursor = ""
        while True:
            page = await self.ask("GET", f"{path}{mark}limit=500{cursor}")
            items += page["items"]
            if not page.get("next_cursor"):
                return items
            cursor = f"&cursor={page['next_cursor']}"


class _Work:
    def __init__(self, proposal: Proposal, router: Router) -> None:
        self._proposal = proposal
        self._router = router
        self._done = Done()

    async def run(self, find_secret: FindSecret) -> Done:
        try:
            me = await self._router.ask("GET", "/me")
            owner_id = me["account"]["id"]
            known_keys = {one["name"] for one in await self._router.all("/provider-keys")}
        except _RefusedError as refused:
            raise ConfigError(
                [f"The XAI API key is not an owner's to manage with: {refused}"]
            ) from None
        for wish in self._proposal.keys:
            await self._add_key(wish, known_keys, find_secret)
        await self._merge("prices", "/prices", self._proposal.prices)
        await self._merge_routing()
        await self._merge_rules(owner_id)
        await self._add_accounts()
        return self._done

    async def _add_key(self, wish: KeyWish, known: set[str], find_secret: FindSecret) -> None:
        what = f"provider key “{wish.name}”"
        if wish.name in known:
            self._done.say(what, "is already there")
            return
        secret = find_secret(wish)
        if secret is None:
            self._done.fail(what, f"has no secret: {_missing(wish.source)}")
            return
        body: dict[str, Any] = {
            "name": wish.name,
            "secret": secret,
            "level": wish.level,
            "weight": wish.weight,
        }
        optional = {"provider": wish.provider, "endpoints": wish.endpoints, "models": wish.models}
        body |= {name: value for name, value in optional.items() if value is not None}
        try:
            made = await self._router.ask("POST", "/provider-keys", body)
        except _RefusedError as refused:
            self._done.fail(what, str(refused))
            return
        self._done.say(what, f"is sealed; check-up: {made['checkup']['state']}")
        if wish.source.literal:
            self._done.say(what, "its secret stands in the file: delete it there", state=CHANGED)

    async def _merge(self, what: str, path: str, wanted: Mapping[str, Any]) -> None:
        """Add entries to a document; those that are there stay."""
        if not wanted:
            return
        try:
            there = await self._router.ask("GET", path)
            await self._router.ask("PUT", path, {**wanted, **there})
        except _RefusedError as refused:
            self._done.fail(what, str(refused))
            return
        self._tell_merged(what, wanted, there)

    def _tell_merged(self, what: str, wanted: Mapping[str, Any], there: Mapping[str, Any]) -> None:
        added = [name for name in wanted if name not in there]
        kept = [name for name in wanted if name in there and there[name] != wanted[name]]
        if added:
            self._done.say(what, f"added for {', '.join(added[:10])}")
        if kept:
            self._done.say(what, f"{', '.join(kept[:10])} stay as they are", state=LEFT_OUT)

    async def _merge_routing(self) -> None:
        wanted: dict[str, Mapping[str, Any]] = {
            "switch_over": self._proposal.switch_over,
            "model_failover": self._proposal.failover,
        }
        if not any(wanted.values()):
            return
        try:
            there = await self._router.ask("GET", "/routing")
            merged = {name: {**part, **there.get(name, {})} for name, part in wanted.items()}
            await self._router.ask("PUT", "/routing", {**there, **merged})
        except _RefusedError as refused:
            self._done.fail("routing", str(refused))
            return
        for name, part in wanted.items():
            self._tell_merged(name, part, there.get(name, {}))

    async def _merge_rules(self, owner_id: str) -> None:
        wanted: dict[str, Mapping[str, Any]] = {
            name: part
            for name, part in (
                ("model_map", self._proposal.model_map),
                ("budget", self._proposal.budget),
            )
            if part
        }
        if not wanted:
            return
        path = f"/accounts/{owner_id}/rules"
        try:
            own = (await self._router.ask("GET", path))["own"]
            patch = {name: {**part, **(own.get(name) or {})} for name, part in wanted.items()}
            await self._router.ask("PATCH", path, patch)
        except _RefusedError as refused:
            self._done.fail("rules of the owner", str(refused))
            return
        for name, part in wanted.items():
            self._tell_merged(name, part, own.get(name) or {})

    async def _add_accounts(self) -> None:
        if not self._proposal.accounts:
            return
        try:
            known = {one["name"] for one in await self._router.all("/accounts?scope=children")}
        except _RefusedError as refused:
            self._done.fail("teams", str(refused))
            return
        for wish in self._proposal.accounts:
            what = f"account “{wish.name}”"
            if wish.name in known:
                self._done.say(what, "is already there")
                continue
            try:
                made = await self._router.ask(
                    "POST", "/accounts", {"name": wish.name, "rules": wish.rules}
                )
                account_id = made["account"]["id"]
                self._done.made.append(
                    {"name": wish.name, "account_id": account_id, "api_key": made["api_key"]}
                )
                if wish.is_suspended:
                    await self._router.ask(
                        "PATCH", f"/accounts/{account_id}", {"status": AccountStatus.SUSPENDED}
                    )
            except _RefusedError as refused:
                self._done.fail(what, str(refused))
                continue
            self._done.say(what, "is made" + (", and suspended" if wish.is_suspended else ""))


def _missing(source: Source) -> str:
    if source.variable:
        return f"{source.variable} is not set, and nothing was typed"
    return "nothing was typed"
