"""Compose files, checked without an engine."""

import importlib.resources
import json
from typing import Any

import check_jsonschema
import jsonschema


def check(document: dict[str, Any]) -> None:
    """Compare a compose file with the schema of the Compose Specification; jsonschema.ValidationError says what does not fit."""
    place = importlib.resources.files(check_jsonschema) / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(document, json.loads(place.read_text()))
