"""What a provider's error reply says in its own fields, and the marks that are looked for there.

A provider quotes its client: the name of a field that it does not know, a value, a header. So no
mark is looked for in an error's raw text, but only in the fields in which the provider uses words
of its own, compared as a whole, and in a message that is one of its sentences.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

_QUOTED_FIRST = frozenset({400, 404, 409, 413, 422})
"""Statuses that answer what a client sent: there a message may begin with the client's text."""


@dataclass(frozen=True, slots=True)
class Said:
    """``words`` stand in the fields that name an error (code, type, status, an ErrorInfo's reason);
    ``message`` is its sentence, or the whole text where the reply is no JSON; ``delay`` seconds of
    a RetryInfo."""

    words: frozenset[str] = frozenset()
    message: str = ""
    delay: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """An error reply of one status that has this word, or whose message is this sentence. In a
    sentence “…” stands for what differs; it may begin with neither “…” nor a client's text.
    ``but_not`` is a sentence with which the mark does not fit."""

    status: int
    word: str = ""
    message: str = ""
    but_not: str = ""

    def __post_init__(self) -> None:
        if not 400 <= self.status < 600 or self.message.startswith("…"):
            raise ValueError(f"A mark needs an error's status, and a beginning: {self}")
        if self.message.endswith("…") and self.status in _QUOTED_FIRST:
            raise ValueError(f"Under this status a message needs an end as well: {self}")

    def fits(self, status: int, said: Said) -> bool:
        """Whether a reply with this status says so. Without word and sentence the status does."""
        if status != self.status or (self.but_not and _is_sentence(self.but_not, said.message)):
            return False
        if self.word:
            return self.word in said.words
        return not self.message or _is_sentence(self.message, said.message)


def _is_sentence(sentence: str, text: str) -> bool:
    """Whether the text has the sentence's pieces: the first at its beginning, the last at its end, the
    others in between, in order."""
    first, *others = sentence.lower().split("…")
    text = text.lower()
    if not others:
        return text == first
    if not text.startswith(first):
        return False
    at = len(first)
    for piece in others[:-1]:
        found = text.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return len(text) - len(others[-1]) >= at and text.endswith(others[-1])


def read_error(body: bytes) -> Said:
    """What an error reply says; of a text that is no JSON object there is a message only."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Said(message=body.decode("utf-8", "replace").strip("\ufeff \t\r\n"))
    if isinstance(document, list) and len(document) == 1:
        # Google's endpoints in OpenAI's format put the error into a list.
        document = document[0]
    if not isinstance(document, dict):
        return Said(message=document if isinstance(document, str) else "")
    inner = document.get("error")
    fields: list[dict[str, Any]] = [document]
    if isinstance(inner, dict):
        fields.insert(0, inner)
    details = [one for part in fields for one in _details(part)]
    return Said(
        frozenset(_words(fields, details)),
        inner if isinstance(inner, str) else _message(fields),
        _delay(details),
    )


_WORDS = ("code", "type", "status")
_MESSAGES = ("message", "detail")
_DELAY = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")


def _words(fields: list[dict[str, Any]], details: list[dict[str, Any]]) -> Iterator[str]:
    for part in fields:
        for name in _WORDS:
            value = part.get(name)
            if isinstance(value, str | int):
                yield str(value)
    for detail in details:
        reason = detail.get("reason")
        if detail["@type"].endswith("/google.rpc.ErrorInfo") and isinstance(reason, str):
            yield reason


def _message(fields: list[dict[str, Any]]) -> str:
    for part in fields:
        for name in _MESSAGES:
            value = part.get(name)
            if isinstance(value, str):
                return value.strip()
    return ""


def _details(part: dict[str, Any]) -> list[dict[str, Any]]:
    details = part.get("details")
    if not isinstance(details, list):
        return []
    return [one for one in details if isinstance(one, dict) and isinstance(one.get("@type"), str)]


def _delay(details: list[dict[str, Any]]) -> float | None:
    for detail in details:
        delay = detail.get("retryDelay")
        if detail["@type"].endswith("/google.rpc.RetryInfo") and isinstance(delay, str):
            found = _DELAY.fullmatch(delay)
            if found:
                return float(found.group(1))
    return None
