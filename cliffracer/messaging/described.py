"""A method as discovery describes it: JSON Schemas of what it takes and returns, in which order, and one hash to compare them by."""

import inspect

from cliffracer.signature import Signature
from cliffracer.wire.schema import canonical, digest, schema


def described(signature: Signature) -> dict[str, str]:
    """Return ``request_schema`` and ``response_schema`` (JSON Schema 2020-12 as text), and ``schema_hash`` of both.

    ``parameters`` has the names of the arguments in their order, comma-separated, since a schema has none; ``streams`` is there where
    the method yields, and says ``true``; ``summary`` is how its docstring begins.
    """
    request, response = (canonical(schema(kind)) for kind in (signature.arguments(), signature.returns))
    made = {"request_schema": request, "response_schema": response, "schema_hash": digest(request, response)}
    made["parameters"] = ",".join(parameter.name for parameter in signature.accepts)
    summary = " ".join(inspect.cleandoc(signature.function.__doc__ or "").partition("\n\n")[0].split())
    return made | ({"streams": "true"} if signature.streams else {}) | ({"summary": summary} if summary else {})
