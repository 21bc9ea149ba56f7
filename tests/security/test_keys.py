"""Keys from settings: which signs, which still verify, and which are refused at start."""

import json
from typing import Any

import pytest

from cliffracer import SetupError
from cliffracer.security.authority import tokens_of
from cliffracer.security.tokens import RefusedToken, unverified
from cliffracer.settings import Settings
from tests.security.corpus import KEY, b64
from tests.support.keys import private_pem, public_pem


def tokens(*keys: str, **more: Any) -> Any:
    return tokens_of(Settings(auth_keys="\n".join(keys), **more))


@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "RS256"])
def test_rotation_with_overlap(alg: str) -> None:
    """The first private key signs; tokens of the one before are good while its public half is there, and not a moment longer."""
    old, new = private_pem(alg), private_pem(alg)
    before, during, after = tokens(old), tokens(new, public_pem(old)), tokens(new)
    was, now = before.issue("ada", ttl=60), during.issue("ada", ttl=60)
    assert unverified(was)[0]["kid"] != unverified(now)[0]["kid"]
    assert {unverified(token)[0]["alg"] for token in (was, now)} == {alg}
    assert during.verify(was)["sub"] == during.verify(now)["sub"] == after.verify(now)["sub"] == "ada"
    for verifier, token in ((before, now), (after, was)):
        with pytest.raises(RefusedToken):
            verifier.verify(token)


def test_moving_from_a_secret_to_keys() -> None:
    """A secret that is still set verifies what it signed; who has the private key signs by that."""
    old = tokens_of(Settings(auth_secret_key=KEY))
    both = tokens(private_pem(), auth_secret_key=KEY)
    assert both.verify(old.issue("ada", ttl=60))["sub"] == "ada"
    assert unverified(both.issue("ada", ttl=60))[0]["alg"] == "EdDSA"


def test_secrets_rotate_in_a_set() -> None:
    """A JWKS may hold shared secrets, too: the first signs."""
    keys = [{"kty": "oct", "k": b64(KEY + text), "kid": text} for text in ("n", "o")]
    old, both = tokens(json.dumps({"keys": keys[1:]})), tokens(json.dumps({"keys": keys}))
    assert both.verify(old.issue("ada", ttl=60))["sub"] == "ada"
    assert unverified(both.issue("ada", ttl=60))[0]["kid"] == "n"


def test_a_key_to_encrypt_with_signs_nothing() -> None:
    """Of a set that is for other things too, the keys for signatures are taken."""
    keys = [{"kty": "oct", "k": b64(KEY + use), "kid": use, "use": use} for use in ("enc", "sig")]
    both = tokens(json.dumps({"keys": keys}))
    assert unverified(both.issue("ada", ttl=60))[0]["kid"] == "sig"
    with pytest.raises(RefusedToken):
        both.verify(tokens(json.dumps({**keys[0], "use": "sig"})).issue("ada", ttl=60))


def test_claims_of_an_access_token() -> None:
    """What is issued has all that RFC 9068 asks for, and says its type."""
    made = tokens(private_pem(), auth_issuer="https://id.example", auth_audience="shop").issue("ada", ttl=60)
    header, claims = unverified(made)
    assert header["typ"] == "at+jwt"
    assert {"iss", "exp", "nbf", "aud", "sub", "client_id", "iat", "jti"} <= claims.keys()
    assert (claims["iss"], claims["aud"]) == ("https://id.example", "shop")


def test_one_role_or_permission_is_no_list_of_letters() -> None:
    """A text is one of them, as in a rule."""
    made = tokens(private_pem())
    claims = made.verify(made.issue("ada", ttl=60, roles="admin", permissions="notes:read"))
    assert (claims["roles"], claims["permissions"]) == (["admin"], ["notes:read"])


@pytest.mark.parametrize(
    ("subject", "roles", "match"),
    [("", 0, "1 to 1024"), ("a" * 1025, 0, "1 to 1024"), ("ada", 1000, "8192 are taken: give it fewer roles and permissions")],
)
def test_tokens_that_nobody_would_take(subject: str, roles: int, match: str) -> None:
    """Whoever issues one is told so, rather than whoever shows it."""
    made = tokens(private_pem())
    assert made.verify(made.issue("a" * 1024, ttl=60, roles=["some"] * 500))["roles"] == ["some"] * 500
    with pytest.raises(ValueError, match=match):
        made.issue(subject, ttl=60, roles=[f"role-{number}" for number in range(roles)])


def test_who_has_public_keys_only_verifies() -> None:
    """A service that need not sign is given no private key."""
    private = private_pem()
    verifier = tokens(public_pem(private))
    assert verifier.verify(tokens(private).issue("ada", ttl=60))["sub"] == "ada"
    with pytest.raises(SetupError, match="No key signs"):
        verifier.issue("ada", ttl=60)


@pytest.mark.parametrize(
    "keys",
    [
        "neither",
        "{}",
        '{"keys": []}',
        '{"keys": 7}',
        '{"keys": [7]}',
        json.dumps({"kty": "oct", "k": b64("short")}),
        json.dumps({"kty": "oct", "k": b64(KEY), "alg": "none"}),
        json.dumps({"kty": "OKP", "crv": "X25519", "x": b64("x" * 32)}),
        json.dumps({"kty": "oct", "k": b64(KEY), "alg": "HS512"}),
        json.dumps({"keys": [{"kty": "oct", "k": b64(KEY + text), "kid": "same"} for text in "ab"]}),
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "/no/such/file.pem",
        "/no/such\0file",
    ],
)
def test_keys_that_are_refused(keys: str) -> None:
    """A key that cannot be read, is too short or is for no algorithm of ours stops the start, and is not shown."""
    with pytest.raises(SetupError) as refused:
        tokens(keys)
    assert b64("short") not in str(refused.value)
    assert "AAAA" not in str(refused.value)


@pytest.mark.parametrize("said", ["please-change-me-please-change-me-1", "a" * 40, "secret" * 8, "password" * 4 + "1"])
@pytest.mark.parametrize("encoded", [True, False])
def test_shared_secrets_that_are_none(said: str, encoded: bool) -> None:
    """A secret in a set is looked at as AUTH_SECRET_KEY is: an example, or a few characters again and again, is refused."""
    text = b64(said) if encoded else said.rstrip("1") * 4
    with pytest.raises(SetupError, match=r"key 1 (is the text of an example|repeats a few characters)") as refused:
        tokens(json.dumps({"keys": [{"kty": "oct", "k": text, "kid": "one"}]}))
    assert said not in str(refused.value)
    assert text not in str(refused.value)


def test_weak_rsa_is_refused() -> None:
    """2048 bits are the least."""
    with pytest.raises(SetupError, match="1024 bits"):
        tokens(private_pem("weak RSA"))
