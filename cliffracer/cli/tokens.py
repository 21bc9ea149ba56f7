"""``cliffracer token``: issue one, look into one."""

import asyncio
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from cliffracer.cli.output import bad, good, print_json, say, soft
from cliffracer.durations import seconds
from cliffracer.errors import SetupError, Unavailable
from cliffracer.security.authority import tokens_of
from cliffracer.security.oidc import Issuer
from cliffracer.security.tokens import RefusedToken, unverified
from cliffracer.settings import Settings

_TIMES = ("exp", "iat", "nbf")


def issue(
    *, subject: str, roles: tuple[str, ...], permissions: tuple[str, ...], ttl: str | None, env_file: str | None, as_json: bool
) -> None:
    """Print a token and nothing else, so that it can be put into a variable."""
    settings = Settings.load(env_file=env_file)
    try:
        lasting = settings.auth_access_ttl if ttl is None else seconds(ttl)
        made = tokens_of(settings).issue(subject, ttl=lasting, roles=roles, permissions=permissions)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if not lasting:
        raise click.UsageError(f"--ttl {ttl} leaves the token no time: give more than 0, or leave it out")
    if as_json:
        print_json({"token": made, "token_type": "Bearer", "expires_in": lasting})
    else:
        click.echo(made)


def inspect(*, text: str, env_file: str | None, as_json: bool) -> None:
    """Show what a token says, and whether that is to be believed."""
    given = (sys.stdin.read() if text == "-" else text).strip().removeprefix("Bearer ").strip()
    try:
        header, claims = unverified(given)
    except RefusedToken as refused:
        raise SetupError(f"That is no token: {refused.reason}.") from None
    refusal = _refusal(given, claims, Settings.load(env_file=env_file))
    if as_json:
        print_json({"header": header, "claims": claims, "good": refusal is None, "reason": refusal})
    else:
        print_json({"header": header, "claims": claims})
        for name in _TIMES:
            if isinstance(claims.get(name), int | float):
                say(soft(f"{name} {_moment(claims[name])}"))
        say(good("good here") if refusal is None else bad(f"refused here: {refusal}"))
    if refusal is not None:
        raise SystemExit(1)


def _refusal(token: str, claims: Mapping[str, Any], settings: Settings) -> str | None:
    """Return why a token is not good here, the issuer of the settings being asked for its keys where it is of that; None if it is good."""
    try:
        issuer = Issuer.of(settings)
        if issuer is not None and claims.get("iss") == issuer.url:
            asyncio.run(issuer.learn())
            issuer.tokens.verify(token)
        else:
            tokens_of(settings).verify(token)
    except RefusedToken as refused:
        return refused.reason
    except (SetupError, Unavailable) as error:
        return "no key for tokens is set" if isinstance(error, SetupError) else error.message
    return None


def _moment(value: Any) -> str:
    try:
        return datetime.fromtimestamp(value, UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return "is no time"
