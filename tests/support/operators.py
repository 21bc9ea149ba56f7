"""Identities of a nats-server in operator mode (ADR-1 of its JWT): an operator, accounts, and users with their credentials."""

import base64
import hashlib
import json
import os
import time
from typing import Any, NamedTuple

import nkeys

ENDLESS = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}


class Signer(NamedTuple):
    """A key pair: public text, seed, and what signs."""

    public: str
    seed: str
    pair: Any


def signer(prefix: int) -> Signer:
    """Return a new key pair of a kind: `nkeys.PREFIX_BYTE_USER` and its like."""
    seed = bytes(nkeys.encode_seed(os.urandom(32), prefix))
    pair = nkeys.from_seed(bytearray(seed))
    return Signer(bytes(pair.public_key).decode(), seed.decode(), pair)


def user() -> Signer:
    """Return the key pair of a user."""
    return signer(nkeys.PREFIX_BYTE_USER)


def jwt(subject: str, name: str, by: Signer, nats: dict[str, Any]) -> str:
    """Return the JWT about a subject, signed by its issuer."""
    claims = {"iat": int(time.time()), "iss": by.public, "name": name, "sub": subject, "nats": {"version": 2, **nats}}
    claims["jti"] = base64.b32encode(hashlib.sha512(json.dumps(claims).encode()).digest()).decode().rstrip("=")
    signed = f"{_base64({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_base64(claims)}"
    return f"{signed}.{base64.urlsafe_b64encode(by.pair.sign(signed.encode())).decode().rstrip('=')}"


class Operator:
    """An operator with a system account and one for services, which has JetStream."""

    def __init__(self) -> None:
        self._operator = signer(nkeys.PREFIX_BYTE_OPERATOR)
        self._system = signer(nkeys.PREFIX_BYTE_ACCOUNT)
        self._account = signer(nkeys.PREFIX_BYTE_ACCOUNT)

    @property
    def config(self) -> str:
        """What nats-server has to be told."""
        limits = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
        accounts = {
            self._system.public: jwt(self._system.public, "SYS", self._operator, {"type": "account", "limits": limits}),
            self._account.public: jwt(self._account.public, "SERVICES", self._operator, {"type": "account", "limits": limits | ENDLESS}),
        }
        operator = jwt(self._operator.public, "test", self._operator, {"type": "operator", "system_account": self._system.public})
        preload = "\n".join(f"  {public}: {text}" for public, text in accounts.items())
        return f"operator: {operator}\nsystem_account: {self._system.public}\nresolver: MEMORY\nresolver_preload {{\n{preload}\n}}\n"

    def credentials(self, name: str, permissions: dict[str, Any] | None = None) -> str:
        """Return the credentials file of a new user."""
        made = user()
        unlimited = {"subs": -1, "data": -1, "payload": -1}
        text = jwt(made.public, name, self._account, {"type": "user", **unlimited, **(permissions or {})})
        return (
            f"-----BEGIN NATS USER JWT-----\n{text}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{made.seed}\n------END USER NKEY SEED------\n"
        )


def _base64(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")
