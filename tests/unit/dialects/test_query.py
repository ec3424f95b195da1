"""Arguments of a query: those of the table pass as they came, all others are refused."""

from tests.rows import for_each
from xairouter.dialects.paths import OPERATIONS
from xairouter.dialects.query import ARGUMENTS, query_for_provider
from xairouter.domain.calls import OperationKind, Refusal
from xairouter.errors import ErrorCode

VALUES = {
    "api-version": ("2024-10-21", "2023-07-01-preview", "preview"),
    "beta": ("true", "false"),
    "include": ("reasoning.encrypted_content", "message.output_text.logprobs"),
    "include[]": ("web_search_call.action.sources",),
    "include_obfuscation": ("false", "True"),
    "starting_after": ("0", "42"),
    "stream": ("true", "false"),
    "after": ("msg_68a1-B_c", "cursor:MTI~="),
    "before": ("rs_1",),
    "limit": ("100",),
    "order": ("asc", "desc"),
    "alt": ("sse", "json"),
    "$alt": ("sse", "json"),
    "prettyPrint": ("true", "false", "1"),
    "$prettyPrint": ("false",),
}
EVERY = [(kind, name) for kind, names in ARGUMENTS.items() for name in names]
GEMINI, GET, ITEMS = (
    OperationKind.GEMINI_GENERATE,
    OperationKind.RESPONSES_GET,
    OperationKind.RESPONSES_INPUT_ITEMS,
)
HOSTILE = (
    b"fields=candidates",
    b"fields",
    b"%66ields=candidates",
    b"%66%69%65%6c%64%73=candidates",
    b"Fields=candidates",
    b"$fields=candidates",
    b"%24fields=candidates",
    b"%2524alt=json",
    b"$httpHeaders=X-Goog-FieldMask%3Acandidates",
    b"$httpMethod=GET",
    b"$.xgafv=2",
    b"$ct=x",
    b"$req=x",
    b"$userProject=x",
    b"$apiKey=x",
    b"alt=proto",
    b"alt=media",
    b"alt=",
    b"alt",
    b"alt=SSE",
    b"ALT=sse",
    b"a%6ct=proto",
    b"alt=%70roto",
    b"$alt=json%3Benum-encoding%3Dint",
    b"alt=sse&alt=proto",
    b"alt=sse&alt=json",
    b"alt=json&a%6ct=sse",
    b"alt=sse&$alt=json",
    b"alt=sse;fields=candidates",
    b"alt=sse%26fields=candidates",
    b"alt=sse%00",
    b"alt=sse%0A",
    b"alt=sse\n",
    b"alt=s%e",
    b"alt=sse%zz",
    b"alt=sse#",
    b"alt=sse+",
    b"+alt=sse",
    b"alt%20=sse",
    b"alt%00=sse",
    b"alt[]=sse",
    b"al\xe4=sse",
    b"alt=\xe4",
    b"prettyPrint=true;fields=candidates",
    b"x=1;key=a",
    b"callback=f",
    b"jsonp=f",
    b"access_token=a",
    b"oauth_token=a",
    b"api_key=a",
    b"KEY=a",
    b"key[]=a",
    b"quotaUser=a",
    b"userIp=1.2.3.4",
    b"uploadType=media",
    b"upload_protocol=resumable",
    b"upload_id=a",
    b"passwd=1",
    b"method=GET",
    # MiniMax's: which of its groups is billed, as OpenAI's organisations are; a client does not choose.
    b"GroupId=1",
    b"group_id=1",
    b"updateMask=a",
    b"model=other",
    b"%6dodels[]=other",
    b"deployment_id=other",
    b"file_id=f",
    b"stream_options[include_usage]=false",
    b"include[0]=x",
    b"include[usage]=x",
    b"=x",
    b"?alt=sse",
)


def test_every_operation_that_goes_to_a_provider_has_a_row():
    sent = {operation.name for operation in OPERATIONS if operation.dialect != "models"}
    assert set(ARGUMENTS) == sent


@for_each(("kind", "name"), EVERY)
def test_every_argument_of_the_table_passes_byte_for_byte(kind: OperationKind, name: str):
    for value in VALUES[name]:
        spelled = f"%{ord(name[0]):02x}{name[1:]}"
        for sent in (f"{name}={value}", f"{spelled}={value}", f"{name}={value}&{name}={value}"):
            assert query_for_provider(kind, sent.encode()) == sent
        assert query_for_provider(kind, f"&{name}={value}&key=k&".encode()) == f"{name}={value}"


@for_each("kind", ARGUMENTS)
def test_every_other_argument_is_refused(kind: OperationKind):
    for query in HOSTILE:
        for sent in (query, b"key=k&" + query, query + b"&key=k"):
            refused = query_for_provider(kind, sent)
            assert isinstance(refused, Refusal), sent
            assert refused.code == ErrorCode.INVALID_REQUEST


@for_each("kind", ARGUMENTS)
def test_what_another_operation_takes_is_refused(kind: OperationKind):
    for name in VALUES.keys() - ARGUMENTS[kind].keys():
        refused = query_for_provider(kind, f"{name}={VALUES[name][0]}".encode())
        assert isinstance(refused, Refusal), name
        assert refused.param == name
        assert f"“{name}”" in refused.message


def test_lists_come_more_than_once_and_others_with_one_value_alone():
    both = b"include[]=a&include%5B%5D=b&include=c"
    for kind in (GET, ITEMS):
        assert query_for_provider(kind, both) == both.decode()
    twice = query_for_provider(ITEMS, b"limit=1&limit=2")
    assert isinstance(twice, Refusal)
    assert twice.param == "limit"
    assert query_for_provider(GEMINI, b"alt=sse&%24alt=sse") == "alt=sse&%24alt=sse"


def test_the_key_goes_nowhere_in_any_spelling():
    for spelled in (b"key=a", b"%6bey=a", b"%6B%65%79=a", b"key", b"key=a&k%65y=b"):
        for kind in ARGUMENTS:
            assert query_for_provider(kind, spelled) == ""


def test_a_message_repeats_no_name_that_may_be_a_secret():
    secret = "sk-Xvs" + "A1b2C3d4" * 6
    refused = query_for_provider(GEMINI, secret.encode())
    assert isinstance(refused, Refusal)
    assert "A1b2" not in refused.message
    assert refused.param is None
