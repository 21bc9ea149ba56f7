"""A method as discovery describes it: JSON Schemas of what it takes and returns, and one hash to compare them by."""

from typing import Any

from cliffracer.wire.schema import canonical, digest, schema


def described(arguments: Any, returns: Any) -> dict[str, str]:
    """Return ``request_schema`` and ``response_schema`` (JSON Schema 2020-12 as text) and ``schema_hash`` of both."""
    request, response = (canonical(schema(kind)) for kind in (arguments, returns))
    return {"request_schema": request, "response_schema": response, "schema_hash": digest(request, response)}
