"""LiteLLM's configuration read into a proposal; nothing of it is silently lost."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xairouter.errors import ConfigError
from xairouter.imports.litellm import read
from xairouter.imports.proposal import CHANGED, LEFT_OUT, Proposal, Source
from xairouter.manage.routing import checked_routing
from xairouter.manage.rules import checked


def _model(name: str, model: str, **params: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": model, **params}}


def _read(*models: Any, environ: Any = None, **sections: Any) -> Proposal:
    return read({"model_list": list(models), **sections}, environ or {})


def _said(proposal: Proposal, state: str) -> list[str]:
    return [f"{line.what}: {line.says}" for line in proposal.lines if line.state == state]


def test_one_secret_is_one_provider_key():
    found = _read(
        _model("a", "openai/gpt-4o", api_key="os.environ/ONE"),
        _model("b", "openai/gpt-4o-mini", api_key="os.environ/ONE"),
        _model("c", "openai/gpt-4o", api_key="os.environ/TWO"),
    )
    assert [(k.provider, k.source, k.models) for k in found.keys] == [
        ("openai", Source("ONE"), ["gpt-4o", "gpt-4o-mini"]),
        ("openai", Source("TWO"), ["gpt-4o"]),
    ]
    assert found.model_map == {"a": "gpt-4o", "b": "gpt-4o-mini", "c": "gpt-4o"}


@pytest.mark.parametrize(
    ("model", "provider", "variable", "served"),
    [
        ("gpt-4o", "openai", "OPENAI_API_KEY", ["gpt-4o"]),
        ("claude-sonnet-4-5", "anthropic", "ANTHROPIC_API_KEY", ["claude-sonnet-4-5"]),
        ("gemini/gemini-2.5-pro", "gemini", "GEMINI_API_KEY", ["gemini-2.5-pro"]),
        ("openrouter/meta/llama", "openrouter", "OPENROUTER_API_KEY", ["meta/llama"]),
        ("openai/*", "openai", "OPENAI_API_KEY", None),
        ("openai/gpt-5*", "openai", "OPENAI_API_KEY", ["gpt-5*"]),
    ],
)
def test_providers_and_the_variables_that_are_read_unasked(
    model: str, provider: str, variable: str, served: Any
):
    [key] = _read(_model(model, model)).keys
    assert (key.provider, key.source.variable, key.models) == (provider, variable, served)
    assert _read(_model(model, model)).model_map == {}


def test_a_secret_in_the_file_and_one_by_reference():
    found = _read(
        _model("a", "openai/a", api_key="sk-secret"),
        _model("b", "openai/b", litellm_credential_name="mine"),
        credential_list=[
            {"credential_name": "mine", "credential_values": {"api_key": "os.environ/MINE"}}
        ],
    )
    assert [key.source for key in found.keys] == [Source(literal="sk-secret"), Source("MINE")]
    assert "sk-secret" not in repr(found)
    assert all("sk-secret" not in line.says + line.what for line in found.lines)


def test_addresses():
    found = _read(
        _model("a", "openai/x", api_base="http://one/v1/", api_key="k"),
        _model("b", "azure/dep", api_base="https://r.openai.azure.com", api_key="k"),
        _model("c", "ollama/y", api_base="os.environ/OLLAMA"),
        _model("d", "anthropic/z", api_base="https://two", api_key="k"),
        _model("e", "openai/e", api_base="https://api.openai.com/v1", api_key="k"),
        _model("f", "openai/f", api_base="os.environ/NONE", api_key="k"),
        _model("g", "azure/g", api_key="k"),
        environ={"OLLAMA": "http://three:11434"},
    )
    places = {key.name: (key.provider, (key.endpoints or {})) for key in found.keys}
    assert places["openai"][0] is None
    assert places["openai"][1]["openai_chat"] == "http://one/v1"
    assert places["azure"][1]["openai_chat"] == "https://r.openai.azure.com/openai/v1"
    assert places["ollama"][1]["openai_chat"] == "http://three:11434/v1"
    assert places["anthropic"] == ("anthropic", {"anthropic_messages": "https://two"})
    assert places["openai 2"] == ("openai", {})
    assert len(_said(found, LEFT_OUT)) == 2


def test_a_name_for_several_models_means_the_first_and_then_the_others():
    found = _read(
        _model("big", "openai/gpt-4o"),
        _model("big", "anthropic/claude"),
        _model("gpt-5", "openai/other"),
        _model("gpt-5", "openai/gpt-5"),
    )
    assert found.model_map == {"big": "gpt-4o"}
    assert found.failover == {"gpt-4o": ["claude"], "gpt-5": ["other"]}
    assert len(_said(found, CHANGED)) == 2


def test_order_and_weight():
    found = _read(
        _model("m", "openai/m", api_key="a", order=1, weight=0.5),
        _model("m", "openai/m", api_key="b", order=2, weight=2),
    )
    assert [(key.level, key.weight) for key in found.keys] == [(1, 50), (2, 200)]
    assert found.switch_over == {"1": [2]}


def test_fallbacks_aliases_prices_and_the_whole_budget():
    found = _read(
        _model("a", "openai/gpt-4o", input_cost_per_token=2.5e-6, output_cost_per_token=1e-5),
        _model("b", "anthropic/claude"),
        litellm_settings={
            "fallbacks": [{"a": ["b"]}],
            "default_fallbacks": ["b"],
            "max_budget": 10,
            "budget_duration": "30d",
            "callbacks": ["langfuse"],
        },
        router_settings={"model_group_alias": {"gpt-4": "a", "hid": {"model": "b", "hidden": 1}}},
        mcp_servers={},
    )
    assert found.failover == {"gpt-4o": ["claude"], "*": ["claude"]}
    assert found.prices == {"gpt-4o": {"input": 2.5, "output": 10.0}}
    assert found.model_map["gpt-4"] == "gpt-4o"
    assert found.model_map["hid"] == "claude"
    assert found.budget == {"month_usd": 10.0}
    left = _said(found, LEFT_OUT)
    assert any(line.startswith("litellm_settings.callbacks") for line in left)
    assert any(line.startswith("mcp_servers") for line in left)


def test_teams():
    found = _read(
        _model("a", "openai/gpt-4o"),
        teams=[
            {
                "team_alias": "one",
                "models": ["a", "other"],
                "max_budget": 5.5,
                "budget_duration": "24h",
                "rpm_limit": 6,
                "tpm_limit": 7,
                "max_parallel_requests": 2,
                "blocked": True,
                "metadata": {"x": 1},
            },
            {"team_id": "two", "models": ["all-proxy-models"], "max_budget": 1},
            {"team_id": "three", "models": ["no-default-models"]},
            {"team_id": "four", "max_budget": 1, "budget_duration": "7d"},
            {"team_id": "two"},
            {},
        ],
    )
    one, two, three, four = found.accounts
    assert one.is_suspended
    assert one.rules == {
        "allow_models": ["a", "gpt-4o", "other"],
        "limits": {"rpm": 6, "tpm": 7, "concurrency": 2},
        "budget": {"day_usd": 5.5},
    }
    assert two.rules == {"budget": {"total_usd": 1.0}}
    assert three.rules == {"allow_models": []}
    assert four.rules == {}
    left = " ".join(_said(found, LEFT_OUT))
    assert "metadata of team one" in left
    assert "7d" in left
    assert "twice" in left
    assert "teams[5]" in left


def test_one_model_at_two_prices_keeps_the_first_and_says_so():
    one, two = ({"input_cost_per_token": price} for price in (1e-6, 2e-6))
    found = _read(
        _model("a", "openai/m", api_key="x", **one),
        _model("b", "openai/m", api_key="y", **one),
        {**_model("c", "openai/m", api_key="z"), "model_info": {**two, "mode": "chat"}},
    )
    assert found.prices == {"m": {"input": 1.0}}
    assert _said(found, CHANGED) == ["price of m: the first of several: input 1"]
    assert _said(found, LEFT_OUT) == ["mode (c): has no counterpart here"]


def test_a_budget_tells_what_has_no_price():
    own = _model("own", "openai/llama", api_base="http://one/v1", api_key="k")
    priced = _model("p", "openai/p", api_base="http://one/v1", api_key="k", input_cost_per_token=1)
    listed = _model("gpt-4o", "openai/gpt-4o")
    assert not _said(_read(own, priced, listed), CHANGED)
    for sections in (
        {"litellm_settings": {"max_budget": 1}},
        {"teams": [{"team_id": "t", "max_budget": 1}]},
    ):
        [line] = _said(_read(own, priced, listed, **sections), CHANGED)
        assert line.startswith("price of llama: ")
        assert "model_unpriced" in line


def test_everything_that_is_not_read_is_told():
    found = _read(
        _model("a", "bedrock/x"),
        _model("b", "what-is-this"),
        _model("c", "openai/c", rpm=5, temperature=0.5),
        {"model_name": "d"},
        "nonsense",
        _model("a*", "openai/b*"),
        general_settings={"master_key": "sk-1234"},
    )
    left = " ".join(_said(found, LEFT_OUT))
    for word in ("bedrock", "what-is-this", "rpm (c)", "temperature (c)", "model_list[3]"):
        assert word in left
    for word in ("model_list[4]", "name a*", "general_settings.master_key"):
        assert word in left
    assert "sk-1234" not in left


@pytest.mark.parametrize("config", [None, [], "x", {"model_list": 3}, {"teams": {"a": 1}}])
def test_what_is_no_configuration_is_refused(config: Any):
    with pytest.raises(ConfigError):
        read(config, {})


_texts = st.sampled_from(
    ["a", "gpt-4o", "openai/gpt-4o", "openai/*", "*", "azure/x", "os.environ/A"]
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts,
    lambda some: st.lists(some, max_size=3) | st.dictionaries(_texts, some, max_size=3),
    max_leaves=6,
)
_deployment = st.fixed_dictionaries(
    {},
    optional={
        "model_name": _texts | _values,
        "litellm_params": st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                ("model", "api_key", "api_base", "weight", "order", "rpm"), _texts | _values
            ),
        )
        | _values,
    },
)


@settings(max_examples=300, deadline=None)
@given(
    st.fixed_dictionaries(
        {"model_list": st.lists(_deployment, max_size=5)},
        optional={
            "litellm_settings": st.dictionaries(
                st.sampled_from(["fallbacks", "max_budget", "budget_duration", "x"]), _values
            )
            | _values,
            "router_settings": st.dictionaries(
                st.sampled_from(["model_group_alias", "default_fallbacks"]), _values
            ),
            "teams": st.lists(
                st.dictionaries(
                    st.sampled_from(
                        ["team_id", "models", "max_budget", "budget_duration", "rpm_limit"]
                    ),
                    _values,
                )
                | _values,
                max_size=3,
            ),
        },
    )
)
def test_no_file_makes_it_stumble(config: Any):
    proposal = read(config, {})
    for key in proposal.keys:
        assert key.models is None or all(isinstance(name, str) for name in key.models)


def test_what_it_proposes_the_router_takes():
    found = _read(
        _model("a", "openai/gpt-4o", order=1),
        _model("a", "anthropic/claude", order=2),
        litellm_settings={"default_fallbacks": ["a"], "max_budget": 3},
        teams=[{"team_id": "t", "models": ["a"], "rpm_limit": 3, "max_budget": 2}],
    )
    checked({"model_map": found.model_map, "budget": found.budget})
    checked(found.accounts[0].rules)
    checked_routing({"switch_over": found.switch_over, "model_failover": found.failover})
