"""How much output a request declares, and how a rule's bound is put in its place.

A provider honours one field and ignores or refuses the others, so a bound always stands in the one
that is honoured: a null or 0 there is replaced, a number that the client gave in another field
moves there, and a field is added only where the request has none.
"""

from xairouter.dialects.peek import Fields, count_field
from xairouter.domain.calls import Declared, Refusal, Span
from xairouter.errors import ErrorCode

OWN_NAMES = frozenset(("n_predict", "num_predict", "max_new_tokens", "max_gen_len", "max_length"))
"""What servers that also speak OpenAI's dialect call the maximum of output in their own: llama.cpp
(where it wins over ``max_tokens``), Ollama, TGI, Llama API. Sources: their servers' references."""
Found = tuple[tuple[Declared, ...], int | None]


def read_declared(fields: Fields, *names: str) -> Found | Refusal:
    """The fields that are present, and the largest number among them; 0 declares nothing."""
    found: tuple[Declared, ...] = ()
    most = None
    for name in names:
        if name in fields:
            given, span = fields[name]
            value = count_field(given, name)
            if isinstance(value, Refusal):
                return value
            found += ((name, value, span),)
            if value and (most is None or value > most):
                most = value
    return found, most


def read_own(fields: Fields, declared: Found) -> Found | Refusal:
    """What is declared with ``OWN_NAMES``, too. Without a number, one of these would take the bound
    away that another field sets."""
    own = read_declared(fields, *sorted(OWN_NAMES))
    if isinstance(own, Refusal):
        return own
    for name, value, _ in own[0]:
        if not value:
            return Refusal(
                ErrorCode.INVALID_REQUEST, f"The field `{name}` must be a whole number.", name
            )
    return declared[0] + own[0], max(declared[1] or 0, own[1] or 0)


def bound_change(
    body: bytes, declared: tuple[Declared, ...], field: str, most: int, zero: int
) -> list[tuple[Span, bytes]] | None:
    """The change after which ``field`` bounds the output: none where it does already; None where
    the field has to be added.

    ``zero`` is what a 0 becomes: servers differ in whether it means nothing or everything.
    """
    wanted = min([value for _, value, _ in declared if value] + [most])
    for name, value, span in declared:
        if name == field:
            number = zero if value == 0 and wanted == most else wanted
            return [] if value else [(span, b"%d" % number)]
    # A number before a null: what the client asked for stands in the field that is replaced.
    for _, _, span in sorted(declared, key=lambda entry: not entry[1])[:1]:
        behind = body.rindex(b'"', 0, span[0])  # Between a name and its value stand no quotes.
        start = body.rindex(b'"', 0, behind)
        return [((start, span[1]), b'"%s":%d' % (field.encode(), wanted))]
    return None
