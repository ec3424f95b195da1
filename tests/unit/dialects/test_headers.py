"""What a request's headers say of its body and of the reply wanted is what the router reads."""

from xairouter.dialects.headers import forwarded


def sent(**headers: str) -> dict[str, str]:
    given = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return dict(
        forwarded(given, "acc", extra=frozenset(), defaults={}, streams=False, has_body=True)
    )


def test_a_body_goes_out_as_json_without_a_charset_whatever_the_client_calls_it():
    for said in (
        "application/json",
        "application/json; charset=utf-8",
        "application/json; charset=utf-7",
        "application/json;charset=UTF-16LE",
        "application/x-www-form-urlencoded",
        "text/plain; charset=utf-7",
        "",
    ):
        assert sent(content_type=said)["content-type"] == "application/json", said


def test_accept_passes_where_all_of_it_can_be_read():
    for accept in (
        "application/json",
        "*/*",
        "text/event-stream",
        "application/json, text/event-stream",
        "Application/JSON;q=0.9, text/*;q=0.1",
    ):
        assert sent(accept=accept)["accept"] == accept
    for accept in (
        "application/x-protobuf",
        "application/json, application/x-protobuf;q=0.1",
        "application/json+x",
        "text/html",
        "",
        ",",
    ):
        assert "accept" not in sent(accept=accept), accept
