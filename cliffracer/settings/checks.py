"""Checks of settings together: derived values, limits between fields, weak secrets."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cliffracer.settings.fields import label
from cliffracer.settings.secret import Secret
from cliffracer.settings.sources import ARGUMENT, PREFIX, Origin

BUILT = "built from "
SHORTEST_KEY = 32  # bytes: RFC 7518, 3.2 wants as many as the hash has
_CURE = 'make one by: python -c "import secrets; print(secrets.token_urlsafe(48))"'
_PHRASES = (
    r"change[-_ ]?(me|this|it)|replace[-_ ]?(me|this|with)|your[-_ ].*(secret|key|password|token)|placeholder|example|insert[-_ ]|^<.*>$"
)
_EXAMPLE = re.compile(_PHRASES + r"|^(secret|password|todo|x+|\*+|none|null|default)$", re.IGNORECASE)
_WORDS = re.compile(_PHRASES + "|secret|password", re.IGNORECASE)
_LONGEST_UNIT = 8
"""Characters of a unit whose repetition makes a key weak; a longer one is rather a sentence."""
EXAMPLE = "is the text of an example"
_SECRETS = ("nats_password", "nats_token", "db_password", "oidc_client_secret")


def derive(values: dict[str, Any], origins: dict[str, Origin]) -> None:
    """Fill in values that are derived from other settings, unless they were given."""
    production = values["env"] == "production"
    if not values["http_host"]:
        values["http_host"] = "0.0.0.0" if production else "127.0.0.1"  # noqa: S104 - a container serves to its outside
    if values["docs"] is None:
        values["docs"] = not production
    parts = [name for name in ("db_host", "db_port", "db_name", "db_user", "db_password") if name in origins]
    if values["database_url"] is None and ("db_host" in parts or "db_name" in parts):
        values["database_url"] = _database_url(values)
        origins["database_url"] = Origin(BUILT + ", ".join(origins[name].key or name for name in parts))


def _database_url(values: Mapping[str, Any]) -> str:
    user, password, host = values["db_user"], values["db_password"], values["db_host"] or "localhost"
    credentials = quote(user or "", safe="")
    if password is not None:
        credentials += ":" + quote(password.reveal(), safe="")
    name = f"[{host}]" if ":" in host else quote(host, safe="")  # an IPv6 address; a socket's folder has slashes
    return f"postgresql://{credentials}{'@' if credentials else ''}{name}:{values['db_port']}/{quote(values['db_name'] or '', safe='')}"


def compare(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> list[str]:
    """Return the problems of settings that are each valid, but not together."""
    problems = []

    def told(name: str) -> str:
        return label(name, origins.get(name, ARGUMENT))

    low, high = values["database_pool_min"], values["database_pool_max"]
    if low > high:
        named = "database_pool_min" if "database_pool_min" in origins else "database_pool_max"
        problems.append(f"{told(named)}: database_pool_min ({low}) is over database_pool_max ({high})")
    for one, other in (("nats_tls_cert", "nats_tls_key"), ("nats_tls_key", "nats_tls_cert")):
        if values[one] and not values[other]:
            problems.append(f"{told(one)} needs {other} too")
    if values["auth_secret_key"] is not None and (
        reason := _weak_key(values["auth_secret_key"].reveal(), production=values["env"] == "production")
    ):
        problems.append(f"{told('auth_secret_key')} {reason}; {_CURE}")
    if values["env"] == "production":
        problems += [f"{told(name)} {EXAMPLE}: set the real one" for name in _SECRETS if _is_example(values[name])]
    return problems


def _weak_key(text: str, *, production: bool) -> str:
    """Return why a text is too weak for a key, or an empty text. ``"k" * 32``, as tests use it, is accepted outside production."""
    length = len(text.encode())
    reason = no_secret(text) if production or _WORDS.search(text) or not _repetition(text) else ""
    if reason == EXAMPLE or length >= SHORTEST_KEY:
        return reason
    return f"has {length} bytes: a key for HS256 has {SHORTEST_KEY} at least"


def no_secret(text: str) -> str:
    """Return why a text is no secret, however long it is; empty if it may be one."""
    if _EXAMPLE.search(text):
        return EXAMPLE
    return "repeats a few characters" if _repetition(text) else ""


def _repetition(text: str) -> bool:
    return any(_repeats(text, unit) for unit in range(1, min(_LONGEST_UNIT, len(text) // 2) + 1))


def _repeats(text: str, unit: int) -> bool:
    """Say whether a text is a repetition of its first ``unit`` characters, the last one perhaps cut short."""
    part = text[:unit]
    whole = (part * 2).find(part, 1) == unit  # it is no repetition itself
    return whole and text.startswith(part * (len(text) // unit))


def _is_example(value: Secret[str] | None) -> bool:
    return value is not None and _EXAMPLE.search(value.reveal()) is not None


def without_servers(names: list[str]) -> str:
    """Return the error for production without these URLs."""
    variables = " and ".join(name.upper() for name in names)
    verb = "is" if len(names) == 1 else "are"
    return (
        f"{variables} {verb} not set, and CLIFFRACER_ENV is production: embedded servers are for development. "
        f"Set {variables} (or {' and '.join(PREFIX + name.upper() for name in names)})."
    )


def summary(problems: list[str]) -> str:
    """Return one message for all problems."""
    if len(problems) == 1:
        return problems[0] if problems[0].endswith(("?", ".")) else f"{problems[0]}."
    return "\n".join((f"{len(problems)} settings are wrong:", *(f"  {problem}" for problem in problems)))
