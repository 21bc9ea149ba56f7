"""Keys that sign and verify tokens, from settings: one explicit algorithm each (RFC 8725, 3.1)."""

import hashlib
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from cliffracer.errors import SetupError
from cliffracer.settings import Secret, Settings
from cliffracer.settings.checks import no_secret

AnyKey = OctKey | RSAKey | ECKey | OKPKey
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_ALLOWED: dict[str, tuple[str, ...]] = {
    "oct": ("HS256", "HS384", "HS512"),
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
}
_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
_SHORTEST_RSA = 2048
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_KINDS: dict[str, type[AnyKey]] = {"oct": OctKey, "RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_HOW = "openssl genpkey -algorithm ed25519"


class Key:
    """A key and its algorithm: nothing in a token can choose another."""

    __slots__ = ("_model", "alg", "key", "kid", "names", "signs")

    def __init__(self, key: AnyKey, alg: str, kid: str) -> None:
        self.key = key
        self.alg = alg
        self.names = frozenset({"EdDSA", "Ed25519"}) if alg == "EdDSA" else frozenset({alg})
        """The names of the algorithm that tokens may use; RFC 9864 renamed EdDSA."""
        self.kid = kid
        self.signs = key.key_type == "oct" or key.is_private
        self._model = JWSRegistry.algorithms[alg]

    def sign(self, data: bytes) -> bytes:
        """Return the signature of these bytes."""
        return self._model.sign(data, self.key)

    def verifies(self, data: bytes, signature: bytes) -> bool:
        """Say whether the signature of these bytes is ours."""
        return self._model.verify(data, signature, self.key)

    def public(self) -> dict[str, Any] | None:
        """Return the public key as a JWK; None for a shared secret, which is not published."""
        if self.key.key_type == "oct":
            return None
        return {**self.key.as_dict(private=False), "kid": self.kid, "alg": self.alg, "use": "sig"}

    def __repr__(self) -> str:
        return f"<Key {self.alg} {self.kid}>"


def keys_of(settings: Settings) -> list[Key]:
    """Return the keys of the settings, the signing one first; `SetupError` for one that is weak or cannot be read."""
    found: list[Key] = []
    if settings.auth_keys is not None:
        found += read_keys(_text(settings.auth_keys), "auth_keys")
    if settings.auth_secret_key is not None:
        text = settings.auth_secret_key.reveal()
        kid = hashlib.sha256(b"cliffracer kid " + text.encode()).hexdigest()[:16]
        found.append(Key(OctKey.import_key(text), "HS256", kid))
    return sorted(found, key=lambda key: not key.signs)


def _text(given: Secret[str]) -> str:
    text = given.reveal()
    if text.lstrip().startswith(("{", "-----")):
        return text
    try:
        return Path(text).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        problem = f"a file that cannot be read ({error.strerror})" if isinstance(error, OSError) else "no file"
        raise SetupError(f"auth_keys names {problem}. Give PEM keys, a JWKS, or the path of a file with them.") from None


def signer(keys: Iterable[Key]) -> Key | None:
    """Return the first key that can sign; None if all of them only verify."""
    return next((key for key in keys if key.signs), None)


def read_keys(text: str, name: str) -> list[Key]:
    """Return the keys of a JWKS or of PEM blocks, in their order; `SetupError` says which one is wrong, without showing it."""
    documents: list[Any] = [match[0] for match in _PEM.finditer(text)]
    if not documents:
        try:
            whole = msgspec.json.decode(text)
        except msgspec.DecodeError:
            whole = None
        documents = whole.get("keys", [whole]) if isinstance(whole, dict) else []
    if not isinstance(documents, list) or not documents:
        raise SetupError(f"{name} holds neither PEM keys nor a JWKS. Make a key by: {_HOW}")
    keys = [_read(document, f"{name}, key {index}") for index, document in enumerate(documents, 1) if _signs(document)]
    kids = [key.kid for key in keys]
    if len(set(kids)) != len(kids):
        raise SetupError(f"{name} has two keys of one kid. Give each its own.")
    return keys


def key_of_jwk(document: Any) -> Key | None:
    """Return the key of one entry of a published JWKS; None for one that is not for signatures, or not supported."""
    if not isinstance(document, dict) or document.get("kty") == "oct" or not _signs(document):
        return None  # a published shared secret is not secret
    try:
        return _read(document, "key")
    except SetupError:
        return None


def _signs(document: Any) -> bool:
    return not (isinstance(document, dict) and document.get("use", "sig") != "sig")


def _read(document: Any, place: str) -> Key:
    try:
        with warnings.catch_warnings():  # at start, before there are threads
            warnings.simplefilter("ignore", SecurityWarning)  # about short keys, which we refuse ourselves
            key = _imported(document)
        alg = _algorithm(key, document)
        stated = document.get("kid") if isinstance(document, dict) else None
        return Key(key, alg, stated if isinstance(stated, str) and stated else key.thumbprint()[:16])
    except _WeakError as error:
        raise SetupError(f"{place} {error}. Make one by: {_HOW}") from None
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise SetupError(f"{place} cannot be read. Make one by: {_HOW}") from None


class _WeakError(Exception):
    """A key that must not be used."""


def _imported(document: Any) -> AnyKey:
    if isinstance(document, dict):
        return _KINDS[document["kty"]].import_key(document)
    for kind in (OKPKey, ECKey, RSAKey):
        try:
            return kind.import_key(document)
        except (JoseError, ValueError, TypeError):
            continue
    raise ValueError("no key")


def _algorithm(key: AnyKey, document: Any) -> str:
    stated = document.get("alg") if isinstance(document, dict) else None
    allowed: tuple[str, ...]
    if isinstance(key, OKPKey):
        if key.curve_name != "Ed25519":
            raise _WeakError(f"is of curve {key.curve_name}, which signs nothing here")
        return "EdDSA"
    allowed = (_CURVES[key.curve_name],) if isinstance(key, ECKey) else _ALLOWED[key.key_type]
    alg = stated if stated in allowed else allowed[0] if stated is None else None
    if alg is None:
        raise _WeakError(f"says alg {stated}, which is not for {key.key_type} keys")
    if isinstance(key, RSAKey) and key.raw_value.key_size < _SHORTEST_RSA:
        raise _WeakError(f"has {key.raw_value.key_size} bits, {_SHORTEST_RSA} is the least")
    if isinstance(key, OctKey) and len(key.raw_value) < _BYTES[alg]:
        raise _WeakError(f"has {len(key.raw_value)} bytes, {alg} wants {_BYTES[alg]} at least")
    if isinstance(key, OctKey) and (reason := no_secret(key.raw_value.decode("latin-1")) or no_secret(str(document.get("k", "")))):
        raise _WeakError(reason)  # the text itself may be the example, encoded or not
    return alg
