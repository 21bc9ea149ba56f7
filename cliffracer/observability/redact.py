"""Hides the configured secrets, and what looks like one, in what a log says."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from cliffracer.settings import MASK, Secret, Settings
from cliffracer.settings.secret import NEXT_URL

PRIVATE = frozenset({
    "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api_key", "apikey", "password", "passwd", "secret",
    "token", "access_token", "refresh_token", "id_token", "client_secret", "private_key", "secret_key",
})  # fmt: skip
"""Names whose values are never logged or shown, in lower case."""

_SHORTEST = 6  # a shorter password is hidden by its name and its type alone, since it is part of other words
_DEEPEST = 100
_WORDS = frozenset({"postgres", "password", "secret", "changeme", "cliffracer", "default"})
_IN_URL = re.compile(r"(?:.*?://)?(?P<credentials>[^\s]*)@")
_CREDENTIALS = re.compile(r"(?<=://)[^\s\"'<>,/@:]{0,256}(?::(?!\d{1,5}[/?#])[^\s\"'<>]{0,256})?(?=@)")
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
_API_KEY = re.compile(r"cr_[0-9a-f]{16}_[0-9a-f]{72}")
_BEARER = re.compile(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}")


class Redaction:
    """Replaces in a text the secrets of these settings as they are, quoted for a URL or escaped; and tokens, and passwords in URLs."""

    def __init__(self, settings: Settings) -> None:
        found = {form for secret in _secrets(settings) for form in _forms(secret) if len(form) >= _SHORTEST and form not in _WORDS}
        self._texts = tuple(sorted(found, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """Return the text without them."""
        for secret in self._texts:
            if secret in text:
                text = text.replace(secret, MASK)
        if "eyJ" in text:
            text = _JWT.sub(MASK, text)
        if "cr_" in text:
            text = _API_KEY.sub(MASK, text)
        if "earer " in text or "asic " in text:
            text = _BEARER.sub(rf"\g<1>{MASK}", text)
        if "://" in text and "@" in text:
            text = _CREDENTIALS.sub(MASK, text)
        return text


def unsecret(value: Any, depth: int = 0) -> Any:
    """Return what was read from JSON, or headers, with ``***`` for values under private names, and for what is too deep to look at."""
    if isinstance(value, dict | list) and depth > _DEEPEST:
        return MASK
    if isinstance(value, dict):
        return {name: MASK if name.lower() in PRIVATE and one is not None else unsecret(one, depth + 1) for name, one in value.items()}
    return [unsecret(one, depth + 1) for one in value] if isinstance(value, list) else value


def _secrets(settings: Settings) -> Iterator[str]:
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Secret):
                revealed = one.reveal()
                if isinstance(revealed, str) and not _is_path(revealed):
                    yield revealed
            elif isinstance(one, str) and ("://" in one or name == "nats_url"):  # whose servers may do without a scheme
                for url in (*NEXT_URL.split(one), *one.split(",")):  # a comma is between servers, or in a password
                    if credentials := _IN_URL.match(url):
                        user, colon, password = credentials["credentials"].partition(":")
                        yield password if colon else user


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~")) and "\n" not in text


def _forms(secret: str) -> Iterator[str]:
    plain = unquote(secret)
    for form in (secret, plain, quote(plain, safe=""), quote(plain)):
        yield form
        yield msgspec.json.encode(form.encode("utf-8", "replace").decode())[1:-1].decode()
        yield repr(form)[1:-1]
