"""A method as discovery describes it: JSON Schemas of what it takes and returns, and one hash to compare them by."""

import hashlib
from typing import Any

import msgspec


def described(arguments: Any, returns: Any) -> dict[str, str]:
    """Return ``request_schema`` and ``response_schema`` (JSON Schema 2020-12 as text) and ``schema_hash`` of both."""
    texts = {"request_schema": _text(arguments), "response_schema": _text(returns)}
    return {**texts, "schema_hash": hashlib.sha256("\n".join(texts.values()).encode()).hexdigest()[:16]}


def _text(kind: Any) -> str:
    try:
        schema = msgspec.json.schema(kind)
    except (TypeError, NotImplementedError):  # a type that only a hook can decode has no schema of its own
        schema = {}
    return msgspec.json.encode(schema, order="deterministic").decode()
