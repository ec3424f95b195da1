"""Request lines."""

from tests.rows import for_each
from xairouter.dialects.paths import GEMINI_VERBS, OPERATIONS, find

CASES = {
    ("POST", "/v1/chat/completions"): ("chat", "/v1/chat/completions"),
    ("POST", "/chat/completions"): ("chat", "/v1/chat/completions"),
    ("POST", "/completions"): ("completions", "/v1/completions"),
    ("POST", "/embeddings"): ("embeddings", "/v1/embeddings"),
    ("POST", "/responses"): ("responses", "/v1/responses"),
    ("POST", "/v1/responses/compact"): ("responses.compact", "/v1/responses/compact"),
    ("POST", "/v1/responses/input_tokens"): (
        "responses.input_tokens",
        "/v1/responses/input_tokens",
    ),
    ("GET", "/v1/responses/resp_1"): ("responses.get", "/v1/responses/resp_1"),
    ("DELETE", "/responses/resp_1"): ("responses.delete", "/v1/responses/resp_1"),
    ("POST", "/v1/responses/resp_1/cancel"): ("responses.cancel", "/v1/responses/resp_1/cancel"),
    ("GET", "/v1/responses/resp_1/input_items"): (
        "responses.input_items",
        "/v1/responses/resp_1/input_items",
    ),
    ("POST", "/messages"): ("messages", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"): ("messages.count_tokens", "/v1/messages/count_tokens"),
    ("GET", "/v1/models"): ("models.list", "/v1/models"),
    ("GET", "/models"): ("models.list", "/v1/models"),
    ("GET", "/v1beta/models"): ("models.list", "/v1beta/models"),
    ("GET", "/v1/models/meta-llama/Llama-3"): ("models.get", "/v1/models/meta-llama/Llama-3"),
    ("GET", "/v1/models/a%2Fb"): ("models.get", "/v1/models/a/b"),
    ("HEAD", "/v1/models"): ("models.list", "/v1/models"),
    ("POST", "/v1beta/models/g:generateContent"): (
        "gemini.generate",
        "/v1beta/models/g:generateContent",
    ),
    ("POST", "/v1/models/g:streamGenerateContent"): (
        "gemini.generate",
        "/v1beta/models/g:streamGenerateContent",
    ),
    ("POST", "/models/g%3AcountTokens"): ("gemini.count_tokens", "/v1beta/models/g:countTokens"),
    ("POST", "/v1beta/models/gemini/g:embedContent"): (
        "gemini.generate",
        "/v1beta/models/gemini/g:embedContent",
    ),
    ("POST", "/v1beta/models/g%C3%A9:generateContent"): (
        "gemini.generate",
        "/v1beta/models/gé:generateContent",
    ),
}


@for_each("line", CASES)
def test_finds_the_operation_and_its_canonical_path(line: tuple[str, str]):
    match = find(line[0], line[1].encode())
    assert match is not None
    assert (match.operation.name, match.path) == CASES[line]


CROOKED = [
    "/",
    "",
    "/v1",
    "/v1/",
    "/v1//chat/completions",
    "//chat/completions",
    "/v1/./chat/completions",
    "/v1/../v1/chat/completions",
    "/v1/chat%2Fcompletions",
    "/v1/chat%5Ccompletions",
    "/v1/chat\\completions",
    "/v1/chat/completions/",
    "/v1/chat/completions%00",
    "/v1/chat/completions%20",
    "/v1/chat/completions%zz",
    "/v1/%",
    "/V1/chat/completions",
    "/v1/v1/chat/completions",
    "/v1/models/g:",
    "/v1/models/:x",
    "/v1beta/models/a/../b:generateContent",
    "/v1beta/models/a//b:generateContent",
    "/v1beta/models/%2e%2e:generateContent",
    "/v1/responses/%2e%2e/cancel",
    "/v1/%ff",
    "/v1/responses/a.b",
    "/v1beta/chat/completions",
    "/v1/threads",
    "/api/v1/me",
]


@for_each("path", CROOKED)
def test_anything_else_is_no_operation(path: str):
    assert find("POST", path.encode()) is None


def test_the_table_s_names_are_unique_and_every_verb_has_a_row():
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))
    assert set(GEMINI_VERBS.values()) <= set(names)
