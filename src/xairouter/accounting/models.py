"""What models do by themselves that a request does not show: think without a word that passes, and
search. Known by their names alone; a table, of which every row has its source.

A model that is missing here is taken for one that does neither. The first row that fits and says how
often a model searches holds.
"""

import re
from functools import lru_cache

import msgspec

SEARCHES = 10
"""Searches that are reserved for a model that searches by itself as often as it likes."""


class Habit(msgspec.Struct, frozen=True):
    """Models whose name, in small letters, holds ``pattern``: whether they may think unseen, and how
    many searches are reserved for them (0: this row says nothing of it)."""

    pattern: str
    source: str
    thinks: bool = False
    searches: int = 0


HABITS = (
    Habit(
        r"search-(?:preview|api)",
        "platform.openai.com/docs/guides/tools-web-search: each answer is one search",
        searches=1,
    ),
    Habit(r"(?:^|/)sonar", "docs.perplexity.ai/getting-started/models", searches=SEARCHES),
    Habit(r"(?:^|/)compound(?:-|$)", "console.groq.com/docs/compound", searches=SEARCHES),
    Habit(r":online$", "openrouter.ai/docs/features/web-search", searches=SEARCHES),
    Habit(
        r"deep-research",
        "platform.openai.com/docs/guides/deep-research",
        thinks=True,
        searches=SEARCHES,
    ),
    Habit(r"(?:^|/)o[1-9](?![\w.])", "platform.openai.com/docs/guides/reasoning", thinks=True),
    Habit(r"gpt-(?:[5-9]|oss)", "platform.openai.com/docs/guides/reasoning", thinks=True),
    Habit(
        r"qwq|qwen(?:3|-(?:plus|max|flash|turbo))",
        "alibabacloud.com/help/en/model-studio/deep-thinking",
        thinks=True,
    ),
    Habit(r"doubao-(?:seed|1[.-]5-thinking)", "volcengine.com/docs/82379/1449737", thinks=True),
    Habit(r"codex", "platform.openai.com/docs/models", thinks=True),
    Habit(
        r"gemini-(?:2\.5|[3-9]|flash|pro)", "ai.google.dev/gemini-api/docs/thinking", thinks=True
    ),
    Habit(r"grok-[3-9]", "docs.x.ai/docs/guides/reasoning", thinks=True),
    Habit(
        r"reason", "api-docs.deepseek.com/guides/reasoning_model, and others' names", thinks=True
    ),
    Habit(r"think", "names of many providers' models", thinks=True),
)
_THINK = re.compile("|".join(one.pattern for one in HABITS if one.thinks))
_SEARCH = tuple((re.compile(one.pattern), one.searches) for one in HABITS if one.searches)


@lru_cache(4096)
def own_searches(model: str) -> int:
    """How often a model may search without being given a tool for it."""
    name = model.lower()
    return next((searches for pattern, searches in _SEARCH if pattern.search(name)), 0)


@lru_cache(4096)
def thinks(model: str) -> bool:
    """Whether a model may think, of which no word need pass to the client."""
    return _THINK.search(model.lower()) is not None
