"""What a provider's error may not say."""

import base64
import gzip
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xairouter.custody.withhold import Search, needles, quotes, readable

SECRET = "sk-ant-api03-Zx9+/qweRTYuiop123456=="


@pytest.mark.parametrize(
    "quoted",
    [
        SECRET,
        SECRET[13:25],
        SECRET[-12:],
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        base64.b64encode(SECRET.encode()).decode().rstrip("="),
        quote(SECRET, safe=""),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_every_disguise_is_found(quoted: str):
    said = b'{"error":"the key %s is bad"}' % quoted.encode()
    assert quotes(said, needles(SECRET))
    assert Search(SECRET).finds(said)


@given(
    secret=st.text("abcXYZ019-_+/=é", min_size=1, max_size=60),
    around=st.text("abcXYZ019-_", max_size=20),
    data=st.data(),
)
def test_the_quick_search_finds_what_the_thorough_one_does(secret: str, around: str, data):
    known = sorted(needles(secret))
    said = around.encode() + data.draw(st.sampled_from([*known, b"nothing"])) + around.encode()
    assert Search(secret).finds(said) == quotes(said, frozenset(known))


@pytest.mark.parametrize(
    "harmless", ["keys look like sk-ant-api03-…", "ends in 456==", "sk-ant-***"]
)
def test_marks_and_masks_are_not_the_secret(harmless: str):
    assert not quotes(harmless.encode(), needles(SECRET))


def test_a_keyless_endpoint_has_nothing_to_hide():
    assert needles("") == frozenset()


def test_readable_inflates_within_bounds_and_refuses_what_it_cannot_search():
    assert readable(gzip.compress(b"x" * 10_000_000), "gzip") == b"x" * 65536
    assert readable(b"x", "br") is None
    assert readable(b"\x1f\x8bnot", "gzip") is None
    assert readable(b"x", "") == b"x"
