"""LiteLLM's proxy configuration, read into a proposal.

Pure: the YAML's content in, a proposal out; nothing is asked or stored. Format: LiteLLM's “All
settings” page and, for teams, what its ``GET /team/list`` answers (fields as of release 1.109).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from xairouter.errors import ConfigError
from xairouter.imports.litellm_names import (
    COSTS,
    KNOWN,
    NO_COUNTERPART,
    READ_INFO,
    READ_PARAMS,
    READ_TEAM,
    WHY,
    Known,
    split_model,
    window_of,
)
from xairouter.imports.proposal import (
    CHANGED,
    LEFT_OUT,
    MAPPED,
    AccountWish,
    KeyWish,
    Proposal,
    Source,
)
from xairouter.providers.table import PROVIDERS

MOST_DEPLOYMENTS = 5000
MOST_TEAMS = 5000


def read(config: Any, environ: Mapping[str, str], teams: Sequence[Any] | None = None) -> Proposal:
    """The proposal that a configuration makes; raises ConfigError if it is none at all.

    ``teams`` are further ones beside the file's own ``teams``. Of ``environ`` only addresses are
    read here, never secrets.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(["The file holds no settings of LiteLLM: no mapping at its top."])
    reader = _Reader(config, environ)
    reader.read_models()
    reader.read_settings()
    listed = config.get("teams") or []
    if not isinstance(listed, list) or not isinstance(teams or [], list):
        raise ConfigError(["`teams` must be a list, as GET /team/list answers."])
    reader.read_teams([*listed, *(teams or [])])
    reader.tell_unpriced()
    return reader.proposal


class _Reader:
    def __init__(self, config: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.proposal = Proposal()
        self._config = config
        self._environ = environ
        self._upstreams: dict[str, list[str]] = {}
        self._ignored: defaultdict[str, list[str]] = defaultdict(list)

    def read_models(self) -> None:
        """``model_list``: a provider key for each secret and address, and names for its models."""
        entries = self._config.get("model_list") or []
        if not isinstance(entries, list) or len(entries) > MOST_DEPLOYMENTS:
            raise ConfigError([f"`model_list` must be a list of at most {MOST_DEPLOYMENTS}."])
        is_fractional = any(_weight(entry) % 1 for entry in entries)
        groups: dict[tuple[Any, ...], KeyWish] = {}
        for place, entry in enumerate(entries):
            self._read_deployment(
                f"model_list[{place}]", entry, groups, 100 if is_fractional else 1
            )
        self.proposal.keys = list(groups.values())
        for wish in self.proposal.keys:
            served = "what its provider lists" if wish.models is None else ", ".join(wish.models)
            where = wish.provider or next(iter((wish.endpoints or {}).values()), "")
            self.proposal.say(MAPPED, f"provider key “{wish.name}”", f"{where}: {served}")
        self._name_models()
        levels = sorted({wish.level for wish in self.proposal.keys})
        for level in levels[:-1]:
            self.proposal.switch_over[str(level)] = [at for at in levels if at > level]
        if len(levels) > 1:
            self.proposal.say(MAPPED, "order", f"levels {', '.join(map(str, levels))}, switch-over")
        for name, models in self._ignored.items():
            shown = ", ".join(list(dict.fromkeys(models))[:5])
            self._leave_out(f"{name} ({shown})", name)

    def _read_deployment(
        self, place: str, entry: Any, groups: dict[tuple[Any, ...], KeyWish], scale: int
    ) -> None:
        name, params = _of(entry, "model_name"), _of(entry, "litellm_params")
        if not isinstance(name, str) or not isinstance(params, Mapping) or not name:
            self.proposal.say(LEFT_OUT, place, "has no `model_name` or no `litellm_params`")
            return
        model = params.get("model")
        if not isinstance(model, str) or not model:
            self.proposal.say(LEFT_OUT, f"model {name}", "names no `litellm_params.model`")
            return
        prefix, upstream = split_model(model, params.get("custom_llm_provider"))
        if prefix not in KNOWN:
            what = f"provider {prefix}" if prefix else f"the provider of {model}"
            self.proposal.say(LEFT_OUT, f"model {name}", f"{what} is not known here")
            return
        known = KNOWN[prefix]
        where = self._where(name, known, params)
        source = self._source(name, params, known.variable)
        if where is None or source is None:
            return
        provider, endpoints = where
        level = params.get("order")
        level = level if isinstance(level, int) and 0 < level <= 1_000_000 else 1
        weight = max(1, min(1_000_000, round(_weight(entry) * scale)))
        place_of = (provider, tuple(sorted((endpoints or {}).items())), source, level, weight)
        if place_of not in groups:
            groups[place_of] = KeyWish(
                self._key_name(prefix, source, groups.values()),
                provider,
                endpoints,
                source,
                level,
                weight,
                [],
            )
        self._serve(groups[place_of], name, prefix, upstream)
        info = _mapping(_of(entry, "model_info"))
        self._read_prices(upstream, {**info, **params})
        for unread in [*(params.keys() - READ_PARAMS), *(info.keys() - READ_INFO)]:
            self._ignored[str(unread)].append(name)

    def _where(
        self, name: str, known: Known, params: Mapping[str, Any]
    ) -> tuple[str | None, dict[str, str] | None] | None:
        base = params.get("api_base") or params.get("base_url")
        if isinstance(base, str) and base.startswith("os.environ/"):
            variable = base.removeprefix("os.environ/")
            base = self._environ.get(variable)
            if not base:
                self.proposal.say(LEFT_OUT, f"model {name}", f"its address, {variable}, is not set")
                return None
        if not base:
            if PROVIDERS[known.row].endpoints:
                return known.row, None
            self.proposal.say(LEFT_OUT, f"model {name}", f"{known.row} needs an `api_base`")
            return None
        endpoints = known.address(str(base))
        if set(endpoints.values()) <= set(PROVIDERS[known.row].endpoints.values()):
            return known.row, None
        return None if known.is_any else known.row, endpoints

    def _source(self, name: str, params: Mapping[str, Any], variable: str) -> Source | None:
        secret = params.get("api_key")
        credential = params.get("litellm_credential_name")
        if secret is None and credential is not None:
            listed = self._config.get("credential_list")
            for one in listed if isinstance(listed, list) else []:
                if _of(one, "credential_name") == credential:
                    secret = _mapping(_of(one, "credential_values")).get("api_key")
        if isinstance(secret, str) and secret.startswith("os.environ/"):
            return Source(variable=secret.removeprefix("os.environ/"))
        if isinstance(secret, str) and secret:
            return Source(literal=secret)
        if secret is not None:
            self.proposal.say(LEFT_OUT, f"model {name}", "its `api_key` is not a text")
            return None
        return Source(variable=variable) if variable else Source(literal="")

    def _key_name(self, prefix: str, source: Source, known: Iterable[KeyWish]) -> str:
        name = f"{prefix} {source.variable}" if source.variable else prefix
        taken = {wish.name for wish in known}
        number = 1
        while (name if number == 1 else f"{name} {number}") in taken:
            number += 1
        return name if number == 1 else f"{name} {number}"

    def _serve(self, wish: KeyWish, name: str, prefix: str, upstream: str) -> None:
        if upstream == "*":
            wish.models = None
        elif wish.models is not None and upstream not in wish.models:
            wish.models.append(upstream)
        if "*" in name or "*" in upstream:
            if name not in ("*", upstream, f"{prefix}/{upstream}"):
                self.proposal.say(
                    LEFT_OUT, f"name {name}", f"clients ask for {upstream}: no pattern maps to one"
                )
            return
        known = self._upstreams.setdefault(name, [])
        if upstream not in known:
            known.append(upstream)

    def _name_models(self) -> None:
        """``model_map`` from each name that is not the model's own, failover to further models."""
        for name, upstreams in self._upstreams.items():
            first = name if name in upstreams else upstreams[0]
            others = [one for one in upstreams if one != first]
            upstreams[:] = [first, *others]
            if first != name and name.partition("/")[2] != first:
                self.proposal.model_map[name] = first
                self.proposal.say(MAPPED, f"name {name}", f"model_map to {first}")
            if others:
                self._fail_over(first, others)
                self.proposal.say(
                    CHANGED,
                    f"name {name}",
                    f"calls go to {first}, and to {', '.join(others)} when it fails; they are not "
                    "spread over different models",
                )

    def _target(self, name: str) -> str:
        """The model that a name means: its own, or where it is mapped to."""
        return self._upstreams.get(name, [self.proposal.model_map.get(name, name)])[0]

    def _fail_over(self, model: str, others: Iterable[str]) -> None:
        known = self.proposal.failover.setdefault(model, [])
        known += [one for one in others if one not in known and one != model]

    def _read_prices(self, model: str, told: Mapping[str, Any]) -> None:
        price = {
            unit: round(float(told[name]) * 1e6, 9)
            for name, unit in COSTS.items()
            if _is_number(told.get(name))
        }
        if not price or "*" in model:
            return
        known = self.proposal.prices.get(model)
        if known is None:
            self.proposal.prices[model] = price
            self.proposal.say(MAPPED, f"price of {model}", _shown(price))
        elif known != price:
            says = f"the first of several: {_shown(known)}"
            self.proposal.say(CHANGED, f"price of {model}", says)

    def read_settings(self) -> None:
        """Aliases, fallbacks, the budget of the whole; everything else by name."""
        for section in ("router_settings", "litellm_settings", "general_settings"):
            settings = _mapping(self._config.get(section))
            for name, value in settings.items():
                if name == "model_group_alias" and isinstance(value, Mapping):
                    self._read_aliases(value)
            for name, value in settings.items():
                if value is None or name in ("model_group_alias", "budget_duration"):
                    continue
                if name == "fallbacks" and isinstance(value, list):
                    self._read_fallbacks(value)
                elif name == "default_fallbacks" and isinstance(value, list):
                    self._read_fallbacks([{"*": value}])
                elif name == "max_budget" and _is_number(value):
                    self.proposal.budget = self._budget(section, settings)
                else:
                    self._leave_out(f"{section}.{name}", str(name))
        read_sections = {"model_list", "credential_list", "teams", "router_settings"}
        for name in self._config.keys() - read_sections - {"litellm_settings", "general_settings"}:
            self._leave_out(str(name), str(name))

    def _read_aliases(self, aliases: Mapping[Any, Any]) -> None:
        for alias, wanted in aliases.items():
            target = _of(wanted, "model") if isinstance(wanted, Mapping) else wanted
            if not isinstance(target, str) or not target:
                self.proposal.say(LEFT_OUT, f"alias {alias}", "names no model")
                continue
            self.proposal.model_map[str(alias)] = self._target(target)
            self.proposal.say(MAPPED, f"alias {alias}", f"model_map to {self._target(target)}")

    def _read_fallbacks(self, fallbacks: list[Any]) -> None:
        for one in fallbacks:
            for name, others in _mapping(one).items():
                listed = others if isinstance(others, list) else []
                names = [one for one in listed if isinstance(one, str)]
                if not names:
                    self.proposal.say(LEFT_OUT, f"fallback of {name}", "names no model")
                    continue
                targets = [self._target(other) for other in names]
                self._fail_over(self._target(str(name)), targets)
                self.proposal.say(MAPPED, f"fallback of {name}", f"to {', '.join(targets)}")

    def read_teams(self, teams: Sequence[Any]) -> None:
        """Each team as a sub-account with rules."""
        if len(teams) > MOST_TEAMS:
            raise ConfigError([f"There are more than {MOST_TEAMS} teams."])
        known: set[str] = set()
        for place, team in enumerate(teams):
            name = _of(team, "team_alias") or _of(team, "team_id")
            if not isinstance(name, str) or not name.strip():
                self.proposal.say(LEFT_OUT, f"teams[{place}]", "has no `team_alias` or `team_id`")
                continue
            if name in known:
                self.proposal.say(LEFT_OUT, f"team {name}", "stands there twice; the first is read")
                continue
            known.add(name)
            rules = self._team_rules(name, team)
            blocked = bool(team.get("blocked"))
            self.proposal.accounts.append(AccountWish(name, rules, blocked))
            self.proposal.say(MAPPED, f"team {name}", f"an account with {_shown(rules)}")
            for field in team.keys() - READ_TEAM:
                if team[field] not in (None, "", [], {}, 0, False):
                    self._leave_out(f"{field} of team {name}", str(field))

    def tell_unpriced(self) -> None:
        """Under a budget, what has no price is refused here and was free at LiteLLM."""
        made = self.proposal
        if not made.budget and not any("budget" in wish.rules for wish in made.accounts):
            return
        listed = {name for name, row in PROVIDERS.items() if row.price_list is not None}
        for wish in made.keys:
            models = [one for one in wish.models or ["*"] if one not in made.prices]
            if models and wish.provider not in listed:
                made.say(
                    CHANGED,
                    f"price of {', '.join(models[:5])}",
                    "no price list knows it, and under a budget it is refused (model_unpriced) "
                    "until PUT /api/v1/prices names one, or `unpriced` in the settings allows it",
                )

    def _team_rules(self, name: str, team: Mapping[str, Any]) -> dict[str, Any]:
        rules: dict[str, Any] = {}
        models = team.get("models")
        if isinstance(models, list) and models and "all-proxy-models" not in models:
            wanted: dict[str, None] = {}
            for model in models:
                if isinstance(model, str) and model != "no-default-models":
                    wanted |= dict.fromkeys([model, *self._upstreams.get(model, [])])
                    wanted |= dict.fromkeys([self._target(model)])
            rules["allow_models"] = list(wanted)
        limits = {
            ours: int(team[theirs])
            for theirs, ours in (
                ("rpm_limit", "rpm"),
                ("tpm_limit", "tpm"),
                ("max_parallel_requests", "concurrency"),
            )
            if _is_number(team.get(theirs))
        }
        if limits:
            rules["limits"] = limits
        if _is_number(team.get("max_budget")):
            budget = self._budget(f"team {name}", team)
            if budget:
                rules["budget"] = budget
        return rules

    def _budget(self, what: str, told: Mapping[str, Any]) -> dict[str, float]:
        amount, duration = float(told["max_budget"]), told.get("budget_duration")
        window = window_of(duration)
        if window is None:
            self.proposal.say(
                LEFT_OUT,
                f"budget of {what}",
                f"{amount:g} USD in {duration}: budgets are for a calendar day, a month, or ever",
            )
            return {}
        if window == "month_usd" and duration != "1mo":
            self.proposal.say(
                CHANGED, f"budget of {what}", f"a calendar month in place of {duration}"
            )
        else:
            self.proposal.say(MAPPED, f"budget of {what}", f"{window}: {amount:g}")
        return {window: amount}

    def _leave_out(self, what: str, name: str) -> None:
        self.proposal.say(LEFT_OUT, what, WHY.get(name, NO_COUNTERPART))


def _weight(entry: Any) -> float:
    weight = _mapping(_of(entry, "litellm_params")).get("weight")
    return float(weight) if weight is not None and _is_number(weight) and weight > 0 else 1.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _of(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _shown(value: Mapping[str, Any]) -> str:
    parts = []
    for name, one in value.items():
        if isinstance(one, Mapping):
            parts.append(_shown(one))
        elif isinstance(one, list):
            parts.append(f"{name} {', '.join(map(str, one[:8]))}{' …' if len(one) > 8 else ''}")
        else:
            parts.append(f"{name} {one:g}")
    return "; ".join(parts) or "no rules of its own"
