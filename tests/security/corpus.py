"""Tokens that must not be taken: what attackers have tried on JWT libraries, made from a good one."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

KEY = "q8Zt3vN0xW7sLk2pRm5yUe9aJh4cGf6d1"


def b64(data: bytes | str) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def signed(header: Any, claims: Any, key: bytes | str = KEY, digest: Any = hashlib.sha256) -> str:
    """Return a token with an HMAC signature; header and claims may be JSON text, to say what no encoder would."""
    head = b64(header if isinstance(header, str | bytes) else json.dumps(header))
    body = b64(claims if isinstance(claims, str | bytes) else json.dumps(claims))
    secret = key.encode() if isinstance(key, str) else key
    return f"{head}.{body}.{b64(hmac.new(secret, f'{head}.{body}'.encode(), digest).digest())}"


def attacks(good: str, public_pem: str = "") -> Iterator[tuple[str, str]]:  # noqa: C901 - a list that is written by loops
    """Yield (name, token) of everything that is to be refused, given a good token signed with `KEY`."""
    head, body, signature = good.split(".")
    header, claims = json.loads(unb64(head)), json.loads(unb64(body))
    now = int(time.time())
    for alg in (
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        "hs256",
        "HS256 ",
        "HS384",
        "HS512",
        "RS256",
        "ES256",
        "PS256",
        "EdDSA",
        None,
        0,
        ["HS256"],
    ):
        yield f"alg {alg!r}", signed({**header, "alg": alg}, claims)
        yield f"alg {alg!r} unsigned", f"{b64(json.dumps({**header, 'alg': alg}))}.{body}."
        yield f"alg {alg!r} with the old signature", f"{b64(json.dumps({**header, 'alg': alg}))}.{body}.{signature}"
    yield "no alg", signed({"typ": "at+jwt", "kid": header["kid"]}, claims)
    yield "a JWE", "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..MTIzNDU2Nzg5MDEy.YWJj.MTIzNDU2Nzg5MDEyMzQ1Ng"
    yield "nested", signed({**header, "cty": "JWT"}, good)
    for name, value in {
        "jku": "http://127.0.0.1:9/jwks", "x5u": "http://127.0.0.1:9/x5u", "jwk": {"kty": "oct", "k": b64("k" * 32)}, "x5c": ["MIIB"],
        "crit": ["exp"], "b64": False, "zip": "DEF", "cty": "JWT", "epk": {}, "url": "http://127.0.0.1:9/",
    }.items():  # fmt: skip
        yield f"header {name}", signed({**header, name: value}, claims)
        yield f"header {name}, own key", signed({**header, name: value}, claims, "k" * 32)
    for kid in ("../../dev/null", "/dev/null", "' OR 1=1 --", "|id", "x" * 10_000, ["a"], {"a": 1}, None, 1, "", "\0", "other"):
        yield f"kid {kid!r:.30}", signed({**header, "kid": kid}, claims)
        yield f"kid {kid!r:.30}, empty key", signed({**header, "kid": kid}, claims, b"")
    for typ in ("JWT", "rt+jwt", "id+jwt", "", None, 1, ["at+jwt"], "at+jwt\0"):
        yield f"typ {typ!r}", signed({**header, "typ": typ}, claims)
    yield "no typ", signed({"alg": "HS256", "kid": header["kid"]}, claims)
    for name, values in {
        "aud": ("other", ["other"], [], {}, None, 1, "cliffracer ", "CLIFFRACER", [["cliffracer"]], [1, "cliffracer"]),
        "iss": ("other", ["cliffracer"], None, "", 0, "cliffracer/", "Cliffracer"),
        "exp": (now - 1, 0, -1, None, "9999999999", True, [now + 60], {}, 1e400, float("nan"), 10**30, float("-inf")),
        "nbf": (now + 3600, None, "0", True, float("nan"), [], 10**30),
        "iat": (now + 3600, None, "0", True, float("inf"), {}),
        "jti": (None, 1, "", [], "x" * 2000),
        "sub": (None, 1, "", [], "x" * 2000, {"a": 1}),
        "roles": ("admin", {"admin": 1}, [1], 1),
        "permissions": ("vault:open", [None], {}),
        "scope": (["vault:open"], 1),
    }.items():
        for value in values:
            yield f"{name} {value!r:.30}", signed(header, {**claims, name: value})
        if name in {"aud", "iss", "exp", "iat", "jti", "sub"}:
            yield f"no {name}", signed(header, {key: value for key, value in claims.items() if key != name})
    yield "a claim twice", signed(header, json.dumps(claims)[:-1] + ', "sub": "root"}')
    yield "a header twice", signed(json.dumps(header)[:-1] + ', "alg": "HS256"}', claims)
    yield "claims that are a list", signed(header, [claims])
    yield "claims that are text", signed(header, '"x"')
    yield "claims that are no JSON", signed(header, "{")
    yield "claims that are no UTF-8", signed(header, b'{"sub": "\xff"}')
    yield "claims too deep", signed(header, '{"a":' * 900 + "1" + "}" * 900)
    yield "claims far too deep", signed(header, "[" * 5000)
    yield "a byte order mark", signed(b"\xef\xbb\xbf" + json.dumps(header).encode(), claims)
    yield "huge", signed(header, {**claims, "pad": "x" * 1_000_000})
    yield "a digit too many", signed(header, json.dumps(claims).replace(str(claims["exp"]), "9" * 5000))
    for name, key in {"another key": "k" * 33, "no key": "", "one byte": "a", "the kid": header["kid"]}.items():
        yield f"signed with {name}", signed(header, claims, key)
    if public_pem:
        for name, text in {"PEM": public_pem, "stripped PEM": public_pem.strip()}.items():
            for kid in (header["kid"], None):
                made = {"alg": "HS256", "typ": "at+jwt"} | ({"kid": kid} if kid else {})
                yield f"HMAC with the public {name} {kid}", signed(made, claims, text)
    tampered = b64(json.dumps({**claims, "sub": "root", "roles": ["admin"]}))
    yield "other claims, old signature", f"{head}.{tampered}.{signature}"
    for name, token in {
        "signature padded": good + "=", "signature with a space": good + " x", "signature cut": good[:-1], "signature long": good + "A",
        "signature empty": f"{head}.{body}.", "no signature": f"{head}.{body}", "no parts": "", "dots": "..", "more dots": good + ".",
        "five parts": good + ".a.b", "standard alphabet": f"{head}.{body}.{signature[:-1]}+",
        "line break in it": f"{head}.{body[:9]}%0A{body[9:]}",
        "reversed": good[::-1], "twice": good + good, "header cut": good[1:], "quoted": f'"{good}"',
        "null": "null", "undefined": "undefined",
    }.items():  # fmt: skip
        yield name, token
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet.index(signature[-1])
    yield "signature written another way", good[:-1] + alphabet[last ^ 1]
    flipped = bytearray(unb64(signature))
    flipped[0] ^= 1
    yield "one bit of the signature", f"{head}.{body}.{b64(bytes(flipped))}"


_L = 2**252 + 27742317777372353535851937790883648493
"""The order of Ed25519's group (RFC 8032, 5.1)."""
_ORDERS = {"ES256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551}


def forgeries(good: str, public: list[bytes], others: Callable[[bytes], bytes]) -> Iterator[tuple[str, str]]:
    """Yield what is to be refused, given a good token with a signature by a private key.

    ``public``: its public half, however it may be written; ``others`` signs with a key of the attacker's of the same kind.
    """
    head, body, signature = good.split(".")
    header, claims = json.loads(unb64(head)), json.loads(unb64(body))
    alg, raw = header["alg"], unb64(signature)

    def made(changed: dict[str, Any], sign: Callable[[bytes], bytes] = lambda _: raw, about: dict[str, Any] = claims) -> str:
        text = f"{b64(json.dumps(changed))}.{b64(json.dumps(about))}"
        return f"{text}.{b64(sign(text.encode()))}"

    for name in ("none", "HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed448", "Ed25519"):
        if name not in {alg, "Ed25519" if alg == "EdDSA" else alg}:
            yield f"{alg} called {name}", made({**header, "alg": name})
            yield f"{alg} called {name}, by another key", made({**header, "alg": name}, others)
    for number, key in enumerate(public):
        for kid in ({"kid": header["kid"]}, {}):
            yield f"HMAC with public key {number} {kid}", signed({"alg": "HS256", "typ": "at+jwt", **kid}, claims, key)
    root = {**claims, "sub": "root", "roles": ["admin"]}
    yield "another key", made(header, others, root)
    yield "another key, no kid", made({"alg": alg, "typ": "at+jwt"}, others, root)
    yield "another key, embedded", made({**header, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": b64(b"x" * 32)}}, others, root)
    for name in ("jku", "x5u"):
        yield f"another key, by {name}", made({**header, name: "http://127.0.0.1:9/keys"}, others, root)
    yield "other claims, old signature", made(header, about=root)
    for name, other in {
        "nothing": b"", "zeros": b"\0" * len(raw), "ones": b"\xff" * len(raw), "cut": raw[:-1], "longer": raw + b"\0", "twice": raw * 2,
        "halves swapped": raw[len(raw) // 2 :] + raw[: len(raw) // 2], "the identity": b"\x01" + b"\0" * (len(raw) - 1),
        "one": b"\0" * (len(raw) // 2 - 1) + b"\x01" + b"\0" * (len(raw) // 2 - 1) + b"\x01",
    }.items():  # fmt: skip
        yield f"signature {name}", made(header, lambda _, other=other: other)
    if alg == "EdDSA":
        scalar = int.from_bytes(raw[32:], "little") + _L
        yield "signature with S + L", f"{head}.{body}.{b64(raw[:32] + scalar.to_bytes(32, 'little'))}"
    if alg in _ORDERS:
        half = len(raw) // 2
        r, s = int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
        yield "signature as DER", f"{head}.{body}.{b64(encode_dss_signature(r, s))}"
        yield "signature with r of the order", f"{head}.{body}.{b64(_ORDERS[alg].to_bytes(half, 'big') + raw[half:])}"
