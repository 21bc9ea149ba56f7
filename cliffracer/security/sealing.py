"""Encrypts the credential behind a ticket with the ticket itself: the bucket alone reveals no key, token or cookie."""

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
    """Return the credential sealed for a ticket; `RefusedToken` if it was not sealed for this one."""
    try:
        opened = jwe.decrypt_compact(sealed, _key(ticket), algorithms=list(_HEADER.values())).plaintext
        return msgspec.json.decode(opened or b"", type=Credential)
    except (JoseError, ValueError):
        raise RefusedToken("a ticket that something else is kept under") from None


def _key(ticket: str) -> OctKey:
    """Return the encryption key: another hash of the ticket (256 random bits) than the one in the bucket."""
    return OctKey.import_key(hashlib.sha256(b"cliffracer ticket " + ticket.encode("utf-8", "surrogatepass")).digest())
