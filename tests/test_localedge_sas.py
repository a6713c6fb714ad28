"""Shared access signatures and user names."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localedge.daemon import sas
from localedge.daemon.identities import new_key
from ripeloop.errors import Refused

KEY, RESOURCE, NOW = new_key(), "hub.example/devices/d/modules/m", 1_000_000


def token(resource=RESOURCE, key=KEY, expires=NOW + 60):
    quoted = quote(resource, safe="")
    signature = quote(sas.sign(key, f"{quoted}\n{expires}".encode()), safe="")
    return f"SharedAccessSignature sr={quoted}&sig={signature}&se={expires}"


def check(text, keys=(KEY,), now=NOW):
    sas.check_token(sas.parse_token(text), resources=[RESOURCE], keys=keys, now=now)


def test_a_token_of_the_module_passes():
    check(token())
    check(token(RESOURCE.upper()))
    check(token(), keys=[new_key(), KEY])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (token(resource="hub.example/devices/d/modules/other"), "other"),
        (token(resource="elsewhere/devices/d/modules/m"), "elsewhere"),
        (token(key=new_key()), "signature"),
        (token(expires=NOW), "expired"),
        (token().replace(f"se={NOW + 60}", f"se={NOW + 61}"), "signature"),
        (token().replace("SharedAccessSignature ", "Bearer "), "no SharedAccessSignature"),
        ("SharedAccessSignature sr=x", "malformed"),
        ("SharedAccessSignature sr=x&sig=y&se=tomorrow", "malformed"),
        ("", "no SharedAccessSignature"),
    ],
)
def test_any_other_token_is_refused(text, why):
    with pytest.raises(Refused, match=why):
        check(text)


@given(st.text())
def test_any_text_is_a_token_or_refused(text):
    for whole in (text, sas.SCHEME + text, f"{sas.SCHEME}sr=a&sig={text}&se=99999999999"):
        with pytest.raises(Refused):
            check(whole)


def test_a_user_name_names_hub_device_and_module():
    claim = sas.parse_username("hub.example/d/m/?api-version=2019-10-01&DeviceClientType=py%2F2")
    assert claim == sas.Claim("hub.example", "d", "m")
    assert sas.parse_username("hub.example/d/?api-version=2019-10-01") == sas.Claim("hub.example", "d", "")


@pytest.mark.parametrize(
    "name", ["", "hub/d/m", "hub/d/m/", "hub/d/m/?DeviceClientType=x", "hub/?api-version=1", "a/b/c/d/?api-version=1"]
)
def test_a_user_name_without_those_or_an_api_version_is_refused(name):
    with pytest.raises(Refused):
        sas.parse_username(name)
