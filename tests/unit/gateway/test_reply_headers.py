"""Reply headers and content types that pass, by table and by property."""

from hypothesis import given
from hypothesis import strategies as st

from xairouter.gateway.reply_headers import (
    CONTENT_TYPES,
    EXPOSED_HEADERS,
    PRIVATE_WORDS,
    content_type_of,
    returned,
)

RUN = (
    "html",
    "xml",
    "svg",
    "script",
    "css",
    "multipart",
    "x-shockwave",
    "mathml",
    "wasm",
    "manifest",
)
"""What stands in a content type that a browser runs, shows as a page, or splits into several."""
PIECES = st.sampled_from(
    (
        "application/json",
        "text/html",
        "text/plain",
        "image/svg+xml",
        "audio/mp4",
        "video/x+xml",
        "charset=utf-8",
        'a="b"',
        ";",
        ",",
        " ",
        "\t",
        "\x0b",
        '"',
        "=",
        "/",
        "+xml",
        "\xff",
        "\x00",
    )
)


def essence(value: str) -> str:
    """The MIME type that a browser reads from a header, as the Fetch standard says: of values
    divided by commas the last that is one (https://fetch.spec.whatwg.org/#concept-header-extract-mime-type)."""
    for part in reversed(value.split(",")):
        found = part.partition(";")[0].strip().lower()
        if found.count("/") == 1 and found != "*/*":
            return found
    return ""


@given(st.lists(PIECES, max_size=12).map("".join))
def test_no_spelling_of_a_content_type_is_one_that_a_browser_runs(said: str):
    sent = dict(content_type_of(said))
    value = sent[b"content-type"].decode()
    assert value.isascii()
    assert value.isprintable() or "\t" in value
    assert not any(word in essence(value) for word in RUN)
    assert essence(value) in CONTENT_TYPES or essence(value).startswith(("audio/", "video/"))
    assert value.partition(";")[0].strip().lower() == essence(value)


@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from(
                    (
                        "connection",
                        "content-type",
                        "retry-after",
                        "openai-model",
                        "x-codex-a",
                        "via",
                    )
                ),
                st.text(min_size=1, max_size=12),
                st.text(min_size=1, max_size=12).map("openai-".__add__),
            ),
            st.text(max_size=12),
        ),
        max_size=8,
    )
)
def test_whatever_a_provider_says_only_listed_names_pass(said: list[tuple[str, str]]):
    for name, value in returned(said):
        text = name.decode()
        assert text in (*EXPOSED_HEADERS, "content-type", "content-disposition") or text.startswith(
            ("openai-", "anthropic-", "x-codex-", "x-metrics-", "fireworks-", "azureai-")
        )
        assert PRIVATE_WORDS.isdisjoint(text.split("-"))
        assert b"\n" not in name + value
        assert b"\r" not in name + value
    listed = {
        part.strip().lower()
        for name, value in said
        if name == "connection"
        for part in value.split(",")
    }
    passed = {name.decode() for name, _ in returned(said)}
    assert passed.isdisjoint(listed - {"content-type", "content-disposition"})
    assert [name for name, _ in returned(said)].count(b"content-type") == 1


def test_a_type_that_connection_names_is_json():
    said = (("content-type", "text/plain"), ("connection", "content-type"))
    assert returned(said) == [(b"content-type", b"application/json")]


def test_names_that_say_whose_account_answers_do_not_pass():
    for name in (
        "openai-organization",
        "openai-project",
        "anthropic-organization-id",
        "anthropic-workspace-id",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-priority-input-tokens-limit",
        "x-codex-primary-used-percent",
        "x-codex-credits-balance",
        "openai-" + "a" * 70,
        "openai-sk_1",
    ):
        assert returned([(name, "1")]) == [(b"content-type", b"application/json")], name
