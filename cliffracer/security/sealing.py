"""Keeps what a ticket stands for so that only the ticket opens it: who reads the bucket finds no key, token or cookie in it."""

import hashlib

import msgspec
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from cliffracer.security.credentials import Credential
from cliffracer.security.tokens import RefusedToken

_HEADER = {"alg": "dir", "enc": "A256GCM"}


def seal(ticket: str, shown: Credential) -> str:
    """Return a credential encrypted for whoever has the ticket (JWE, RFC 7516, by AES-GCM)."""
    return jwe.encrypt_compact(_HEADER, msgspec.json.encode(shown), _key(ticket))


def unseal(ticket: str, sealed: str) -> Credential:
    """Return what was sealed for a ticket; `RefusedToken` for what was not."""
    try:
        opened = jwe.decrypt_compact(sealed, _key(ticket), algorithms=list(_HEADER.values())).plaintext
        return msgspec.json.decode(opened or b"", type=Credential)
    except (JoseError, ValueError):
        raise RefusedToken("a ticket that something else is kept under") from None


def _key(ticket: str) -> OctKey:
    """Return a key that what the bucket knows of the ticket, another hash, does not tell; a ticket has 256 random bits."""
    return OctKey.import_key(hashlib.sha256(b"cliffracer ticket " + ticket.encode("utf-8", "surrogatepass")).digest())
