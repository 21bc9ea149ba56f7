"""``--login``: signs in at the issuer of the settings, or where an app has `Accounts`, and calls with the token that it gives."""

import importlib
import sys
from http.client import HTTPException
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import click
import msgspec

from cliffracer.errors import Overloaded, SetupError, Unauthenticated, Unavailable
from cliffracer.settings import Settings

_PATIENCE = 10.0
_LARGEST = 100_000
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - asked, not bound


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: a password goes where it was meant to go."""


class Login(NamedTuple):
    """Who is to sign in, and where, as the options of a command say."""

    name: str | None = None
    url: str | None = None
    """Of `Accounts`."""
    client: str | None = None
    """Who we are at the issuer."""
    scope: str = "openid profile email"


def token_of(settings: Settings, token: str | None, login: Login) -> str | None:
    """Return the token to call with: that which was given, or one for who signs in; None for nobody."""
    if token is not None and login.name is not None:
        raise click.UsageError("give --token or --login")
    if login.name is None:
        if login.url is not None:
            raise click.UsageError("--login-url is where to sign in: say who, by --login NAME")
        return token
    if login.url is None and settings.oidc_issuer is not None:
        found: str = importlib.import_module("cliffracer.cli.signin").access_token(settings, login.name, login.client, login.scope)
        return found
    place = login.url or f"http://{_ANY.get(settings.http_host, settings.http_host)}:{settings.http_port}/auth/login"
    parts = urlsplit(place)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise click.UsageError(f"{place} is no URL to sign in at: write https://host/auth/login")
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        raise SetupError(f"{place} would send the password in the clear. Use https.")
    return _signed_in(place, login.name, _password(login.name), local=parts.hostname in _LOCAL)


def _password(name: str) -> str:
    if sys.stdin.isatty():
        typed: str = click.prompt(f"Password of {name}", hide_input=True, err=True)
        return typed
    return sys.stdin.readline().rstrip("\n")


def _signed_in(place: str, name: str, password: str, *, local: bool) -> str:
    """Return an access token; the class of what went wrong otherwise, in words that hold no password."""
    body = msgspec.json.encode({"username": name, "password": password})
    asked = Request(place, body, {"Content-Type": "application/json", "Accept": "application/json"})  # noqa: S310 - its scheme was checked
    opener = build_opener(_NoRedirects(), *([ProxyHandler({})] if local else []))
    try:
        with opener.open(asked, timeout=_PATIENCE) as answer:
            found = msgspec.json.decode(answer.read(_LARGEST))
    except HTTPError as error:
        with error:
            raise _refusal(error, place, name) from None
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(
            f"Nobody can be asked to sign {name} in at {place} ({reason}); --login-url says where the app serves HTTP."
        ) from None
    except msgspec.MsgspecError:
        found = None
    token = found.get("access_token") if isinstance(found, dict) else None
    if not isinstance(token, str):
        raise SetupError(f"{place} gave no token: is that where Accounts() signs in?")
    return token


def _refusal(error: HTTPError, place: str, name: str) -> Exception:
    if error.code == 401:
        return Unauthenticated(f"name or password of {name} is wrong")
    if error.code == 429:
        after = error.headers.get("Retry-After", "")
        return Overloaded("too many attempts to sign in", retry_after=float(after) if after.isdigit() else 60.0)
    return SetupError(f"{place} answers {error.code}: is that where Accounts() signs in? Say where by --login-url.")
