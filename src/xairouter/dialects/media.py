"""A request's input in tokens, as estimated before it is sent.

Text is a token for four bytes. Images, sound and films that stand encoded in a body are not text, but
only where a provider takes them for what they are: as a part of a message. Anywhere else, and in
whatever form, a long run of letters is text.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from xairouter.accounting.reservation import BYTES_PER_TOKEN, TOKENS_PER_FILE, TOKENS_PER_IMAGE
from xairouter.dialects.peek import Top, picked
from xairouter.domain.steps import Steps, at_once

MOST_OBJECTS = 20_000
"""In a body with more, everything is text: looking for parts would take too long."""
SMALLEST = 1024
BYTES_PER_SOUND_TOKEN = 24
"""Encoded bytes of sound and films for a token, at the lowest rates that speech is kept at."""
_WORDS = (
    b'image_url"',
    b'input_image"',
    b'fileData"',
    b'file_data"',
    b'"image"',
    b'_url"',
    b'Uri"',
    b'_uri"',
    b'"url"',
    b'"data:app',
    b'a_type"',
    b'e_type"',
    b'mimeType"',
)
"""One of them stands in every body in which ``_LINKED`` is found."""
_BEGIN = re.compile(
    rb'(?="(?:image_url|input_image|fileData|file_data|type|file_url|document_url|video_url|audio_url'
    rb'|fileUri|file_uri|media_type|mime_type|mimeType)"|"data:application)'
)
_LONGEST_WORD = len(b'"data:application')
_AT_ONCE = 32 * 1024
_BYTES_AN_ITEM = 64
"""What looking at an item takes, in bytes of a body."""
_LINKED = re.compile(
    rb'"(?:image_url|input_image|fileData|file_data)"\s*:|"type"\s*:\s*"image"'
    rb'|(?P<file>"(?:file_url|document_url|video_url|audio_url|fileUri|file_uri)"\s*:\s*+'
    rb'(?!"data:|\{\s*"url"\s*:\s*"data:))'
    rb'|(?P<document>"type"\s*:\s*"document")|(?P<url>"type"\s*:\s*"url")'
    rb'|(?P<inline>"data:application\\?/|"(?:media_type|mime_type|mimeType)"\s*:\s*"application\\?/'
    rb"(?!json|xml|x-www))"
)
"""Images, and files and films at an address; Anthropic's documents say by two types that they are one.
Documents that stand encoded in a body hold more than their bytes: their pages are compressed."""
_NONE = msgspec.Raw()


class _Body(msgspec.Struct):
    messages: msgspec.Raw = _NONE
    input: msgspec.Raw = _NONE
    contents: msgspec.Raw = _NONE
    requests: msgspec.Raw = _NONE


class _Item(msgspec.Struct):
    """A message or a part of one, whatever the dialect."""

    content: msgspec.Raw = _NONE
    parts: msgspec.Raw = _NONE
    output: msgspec.Raw = _NONE
    image_url: msgspec.Raw = _NONE
    source: msgspec.Raw = _NONE
    inlineData: msgspec.Raw = _NONE  # noqa: N815 -- the wire's name
    inline_data: msgspec.Raw = _NONE
    input_audio: msgspec.Raw = _NONE
    file: msgspec.Raw = _NONE
    file_data: msgspec.Raw = _NONE


class _Media(msgspec.Struct):
    data: msgspec.Raw = _NONE
    url: msgspec.Raw = _NONE
    file_data: msgspec.Raw = _NONE
    media_type: Any = None
    mimeType: Any = None  # noqa: N815
    mime_type: Any = None
    format: Any = None


_BODY = msgspec.json.Decoder(_Body)
_ITEM = msgspec.json.Decoder(_Item)
_ITEMS = msgspec.json.Decoder(list[_Item])
_MEDIA = msgspec.json.Decoder(_Media)
_DATA_URL = re.compile(rb'"data:((?:image|audio|video)/)[\w.+-]{1,64};base64,')
_LEVELS = 4
"""Messages, their parts, and those of a tool's result."""


class _Found:
    """Images, sound and films found so far: their encoded bytes, tokens and number."""

    def __init__(self) -> None:
        self.size = self.tokens = self.count = 0

    def add(self, media: Iterable[tuple[int, int]]) -> None:
        for size, tokens in media:
            self.size += size
            self.tokens += tokens
            self.count += 1


def input_tokens_of(body: bytes) -> int:
    """``input_tokens_in_steps`` at once."""
    if len(body) <= 2 * SMALLEST and _LINKED.search(body) is None:
        return -(-len(body) // BYTES_PER_TOKEN)
    return at_once(input_tokens_in_steps(body))


def input_tokens_in_steps(body: bytes, top: Top | None = None) -> Steps[int]:
    """An estimate of a request's input in tokens; ``top`` holds the body's fields, where they are
    known."""
    found = _Found()
    if len(body) > 2 * SMALLEST and body.count(b"{") <= MOST_OBJECTS:
        yield from _find_media(body, top, found)
    tokens = found.tokens
    yield
    if _may_link(body):
        linked = yield from _count_links(body)
        tokens += TOKENS_PER_IMAGE * max(0, linked[None] - found.count)
        files = linked["file"] + linked["inline"] + min(linked["document"], linked["url"])
        tokens += TOKENS_PER_FILE * files
    return -(-(len(body) - found.size) // BYTES_PER_TOKEN) + tokens


def _may_link(body: bytes) -> object:
    """Whether ``_LINKED`` may be found."""
    if len(body) <= _AT_ONCE:
        return _LINKED.search(body)
    return any(word in body for word in _WORDS)


def _count_links(body: bytes) -> Steps[Counter[str | None]]:
    """How often ``_LINKED`` is found, by its groups. No two of its finds overlap, so each can be
    looked at alone."""
    count: Counter[str | None] = Counter()
    for at in range(0, len(body), _AT_ONCE):
        # One that begins in these bytes may end behind them.
        for begin in _BEGIN.finditer(body, at, at + _AT_ONCE + _LONGEST_WORD):
            if begin.start() < at + _AT_ONCE and (found := _LINKED.match(body, begin.start())):
                count[found.lastgroup] += 1
        if at + _AT_ONCE < len(body):
            yield
    return count


def _find_media(body: bytes, top: Top | None, found: _Found) -> Steps[None]:
    """Look for media in the parts of messages."""
    try:
        read = _BODY.decode(body) if top is None else picked(top, _Body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    waiting: list[tuple[msgspec.Raw, int]] = [
        (one, 0) for one in (read.messages, read.input, read.contents)
    ]
    done = 0
    while waiting:
        raw, level = waiting.pop()
        if level >= _LEVELS:
            continue
        items = _items(raw)
        done += _BYTES_AN_ITEM + len(memoryview(raw)) // _LEVELS
        if done >= _AT_ONCE:
            done = 0
            yield
        for item in items:
            waiting += [(one, level + 1) for one in (item.content, item.parts, item.output)]
            found.add(_of_item(item))
            done += _BYTES_AN_ITEM
            if done >= _AT_ONCE:
                done = 0
                yield


def _items(raw: msgspec.Raw) -> Iterable[_Item]:
    """Messages or parts; none where there is nothing that could hold media."""
    if _is_small(raw):
        return ()
    data = bytes(raw)
    try:
        return _ITEMS.decode(data) if data[:1] == b"[" else (_ITEM.decode(data),)
    except (msgspec.MsgspecError, RecursionError):
        return ()


def _is_small(raw: msgspec.Raw) -> bool:
    """Whether a value is no container, or one in which nothing can be that counts."""
    data = memoryview(raw)
    return len(data) <= SMALLEST or data[0] not in b"[{"


def _of_item(item: _Item) -> Iterator[tuple[int, int]]:
    for raw in (item.image_url, item.file_data):
        yield from _of_url(raw)
    for raw in (
        item.image_url,
        item.source,
        item.inlineData,
        item.inline_data,
        item.input_audio,
        item.file,
    ):
        if _is_small(raw) or memoryview(raw)[0] != ord("{"):
            continue
        try:
            media = _MEDIA.decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            continue
        for inner in (media.url, media.file_data):
            yield from _of_url(inner)
        kind = media.media_type or media.mimeType or media.mime_type
        if raw is item.input_audio:
            kind = "audio/"
        if isinstance(kind, str) and kind.startswith(("image/", "audio/", "video/")):
            yield _weighed(len(memoryview(media.data)), is_image=kind.startswith("image/"))


def _of_url(raw: msgspec.Raw) -> Iterator[tuple[int, int]]:
    data = memoryview(raw)
    found = _DATA_URL.match(data)
    if found is not None:
        yield _weighed(len(data), is_image=found.group(1) == b"image/")


def _weighed(size: int, *, is_image: bool) -> tuple[int, int]:
    if is_image:
        return size, TOKENS_PER_IMAGE
    return size, max(TOKENS_PER_IMAGE, size // BYTES_PER_SOUND_TOKEN)
