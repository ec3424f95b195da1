"""What a provider's error may not say."""

import base64
import gzip
import html
import json
import random
import sys
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows import for_each
from xairouter.custody.withhold import SEARCHED_BYTES, Search, readable
from xairouter.domain.steps import at_once

SECRET = "sk-ant-api03-Zx9+/qweRTYuiop123456_ab=="
MASKED = ["keys look like sk-ant-api03-…", "ends in 456_ab==", "sk-ant-***", "Zx9+/qw…56_ab=="]


def _every(form: str) -> Callable[[str], bytes]:
    return lambda text: "".join(form.format(ord(c)) for c in text).encode()


def _some(form: str) -> Callable[[str], bytes]:
    """Every third character in another form, the others as they are."""
    return lambda text: "".join(
        form.format(ord(c)) if at % 3 == 0 else c for at, c in enumerate(text)
    ).encode()


FORMS: dict[str, Callable[[str], bytes]] = {
    "as it is": lambda text: text.encode(),
    "upper case": lambda text: text.upper().encode(),
    "lower case": lambda text: text.lower().encode(),
    "JSON": lambda text: json.dumps(text)[1:-1].replace("/", "\\/").encode(),
    "JSON in JSON": lambda text: json.dumps(_some("\\u{:04x}")(text).decode())[1:-1].encode(),
    "\\u": _every("\\u{:04x}"),
    "\\u in places": _some("\\u{:04X}"),
    "\\u{}": _every("\\u{{{:x}}}"),
    "\\x": _some("\\x{:02x}"),
    "\\U": _some("\\U{:08x}"),
    "URL": lambda text: quote(text, safe="").encode(),
    "%xx": _every("%{:02x}"),
    "%XX in places": _some("%{:02X}"),
    "%25xx": lambda text: _every("%{:02x}")(text).replace(b"%", b"%25"),
    "%u00xx": _every("%u{:04x}"),
    "HTML": lambda text: html.escape(text).encode(),
    "HTML, decimal": _every("&#{};"),
    "HTML, decimal, without an end": _every("&#0{}"),
    "HTML, hexadecimal": _every("&#x{:x};"),
    "HTML, in places": _some("&#X00{:X};"),
    "HTML, names": lambda text: text.replace("_", "&lowbar;").replace("+", "&plus;").encode(),
    "UTF-16 LE": lambda text: text.encode("utf-16-le"),
    "UTF-16 BE": lambda text: text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "hexadecimal": lambda text: text.encode().hex().encode(),
    "HEXADECIMAL": lambda text: text.encode().hex().upper().encode(),
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64, 1 before": lambda text: base64.b64encode(b"{" + text.encode()),
    "base64, 2 before": lambda text: base64.b64encode(b"{:" + text.encode()),
    "base64 of a URL": lambda text: base64.urlsafe_b64encode(b"??>" + text.encode()),
    "base64 behind a word": lambda text: b"x" + base64.b64encode(text.encode()),
    "base64 in lines": lambda text: base64.encodebytes(b"." * 40 + text.encode()),
    "base64 in lines in JSON": lambda text: base64.encodebytes(b"." * 40 + text.encode()).replace(
        b"\n", b"\\n"
    ),
    "base64 of base64": lambda text: base64.b64encode(base64.b64encode(text.encode())),
    "base64 of UTF-16": lambda text: base64.b64encode(text.encode("utf-16")),
    "base64 of %xx": lambda text: base64.b64encode(_every("%{:02x}")(text)),
    "base64 in hexadecimal": lambda text: base64.b64encode(text.encode()).hex().encode(),
    "%xx of base64": lambda text: _every("%{:02x}")(base64.b64encode(text.encode()).decode()),
}
QUOTED = {"all": SECRET, "the beginning": SECRET[13:25], "the end": SECRET[-12:]}


def _found(secret: str, body: bytes) -> bool:
    return at_once(Search(secret).finds_in_steps(body))


@for_each("part", QUOTED)
@for_each("form", FORMS)
def test_every_form_of_a_fragment_is_found(form: str, part: str):
    quoted = FORMS[form](QUOTED[part])
    for around in (b'{"error":"the key %b is bad"}', b"%b", b"0/%b/0", b'{"Yes, a word":"%b"}'):
        assert _found(SECRET, around % quoted), (form, quoted)


@given(
    secret=st.text("abcXYZ019-_+/=.", min_size=16, max_size=180),
    form=st.sampled_from(sorted(FORMS)),
    before=st.text("abcXYZ019-_ \n{", max_size=40),
)
def test_a_secret_of_any_length_is_found_in_every_form(secret: str, form: str, before: str):
    assert _found(secret, before.encode() + b' "' + FORMS[form](secret) + b'" x')


@pytest.mark.parametrize("harmless", MASKED)
def test_marks_and_masks_are_not_the_secret(harmless: str):
    assert not _found(SECRET, harmless.encode())
    assert not Search(SECRET).finds_in_header(harmless)


@pytest.mark.parametrize("secret", ["", "-", "x", "none", "EMPTY", "sk-12345", "x" * 15])
def test_what_is_too_short_to_be_a_secret_is_not_searched_for(secret: str):
    assert not _found(secret, b"x-none-EMPTY sk-12345 " + b"x" * 40)
    assert not Search(secret).finds_in_header("text/event-stream " + secret)


@pytest.mark.parametrize(
    "quoted",
    [
        *(SECRET, SECRET.upper(), SECRET.lower(), SECRET[13:25], SECRET[-12:]),
        *(SECRET.encode().hex(), base64.b64encode(SECRET.encode()).decode()),
    ],
)
def test_a_header_that_holds_the_secret_is_found(quoted: str):
    assert Search(SECRET).finds_in_header(f"x-debug\nkey={quoted}!")


def _steps(work: Callable[[], object]) -> int:
    """Bytecodes that run."""
    steps = 0

    def trace(frame, event, _):
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(None)
    return steps


_CHANCE = random.Random(1)
HOSTILE = {
    "backslashes": lambda size: b"\\" * size,
    "per cent": lambda size: b"%41" * (size // 3),
    "ampersands": lambda size: b"&#x0" * (size // 4),
    "zeros": lambda size: b"&#x" + b"0" * size,
    "entities": lambda size: b"&#65;" * (size // 5),
    "base64": lambda size: base64.b64encode(_CHANCE.randbytes(size))[:size],
    "hexadecimal": lambda size: b"6162" * (size // 4),
    "lines": lambda size: b"AAAAAAAAAAAAAAAA\n" * (size // 17),
    "blocks of the secret": lambda size: (b"zx9+/q" + b"wertyu..") * (size // 14),
    "zero bytes": lambda size: b"\0" * size,
    "layers": lambda size: base64.b64encode(base64.b64encode(b"%2541" * size))[:size],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_work_grows_with_the_body_alone(kind: str):
    small, large = (HOSTILE[kind](size) for size in (4096, SEARCHED_BYTES))
    assert _steps(lambda: _found(SECRET, large)) < 2 * 16 * _steps(lambda: _found(SECRET, small))


def test_readable_inflates_within_bounds_and_refuses_what_it_cannot_search():
    assert readable(gzip.compress(b"x" * 10_000_000), "gzip") == b"x" * 65536
    assert readable(b"x", "br") is None
    assert readable(b"\x1f\x8bnot", "gzip") is None
    assert readable(b"x", "") == b"x"
