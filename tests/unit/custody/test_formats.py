"""The forms of secrets."""

import re

from hypothesis import given
from hypothesis import strategies as st

from xairouter.custody import formats


def test_an_api_key_has_the_documented_form():
    keys = {formats.new_api_key() for _ in range(200)}
    assert len(keys) == 200
    for key in keys:
        assert re.fullmatch(r"sk-Xvs[0-9A-Za-z]{45}", key)
        assert len(key) == 51
        assert formats.is_api_key(key)


def test_the_checksum_is_crc_32_in_six_base62_digits():
    body = "sk-Xvs" + "a" * 39
    assert formats._checksum62(body) == "23emdh"
    assert formats.is_api_key(body + "23emdh")


@given(st.integers(0, 50), st.sampled_from("0aZ-_ \x00é"))
def test_one_changed_character_is_no_key(at: int, character: str):
    key = formats.new_api_key()
    changed = key[:at] + character + key[at + 1 :]
    assert formats.is_api_key(changed) is (changed == key)


@given(st.text(max_size=80))
def test_arbitrary_text_is_no_key_and_no_code(text: str):
    assert not formats.is_api_key(text)
    assert formats.normalise_recovery_code(text) is None


def test_a_recovery_code_survives_how_people_type():
    for _ in range(100):
        code = formats.new_recovery_code()
        assert re.fullmatch(r"XR1-[0-9A-HJKMNP-TV-Z]{34}", code)
        typed = code.lower().replace("0", "o").replace("1", "l")
        spaced = " ".join(typed[at : at + 5] for at in range(0, len(typed), 5))
        assert formats.normalise_recovery_code(code) == code
        assert formats.normalise_recovery_code(spaced.replace("xrl", "xr1")) == code
        wrong = code[:-1] + ("0" if code[-1] != "0" else "1")
        assert formats.normalise_recovery_code(wrong) is None


def test_the_look_up_id_is_personalised_blake2b():
    import hashlib

    expected = hashlib.blake2b(b"sk-x", digest_size=32, person=b"xai-lookup-v1").digest()
    assert formats.look_up_id("sk-x") == expected
