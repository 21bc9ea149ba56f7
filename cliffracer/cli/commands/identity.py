"""How ``token``, ``users`` and ``keys`` are parsed."""

from typing import Any

import click

from cliffracer.cli.commands import do, env_file_option, json_option


def _words(_: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse a right that no rule can ask for: an empty variable, or several permissions in one."""
    for one in given:
        if not one.strip():
            raise click.BadParameter("it is empty: name one, or leave it out")
        if option.name == "permissions" and len(one.split()) > 1:
            raise click.BadParameter(f"a permission is one word: write {' '.join(f'--permission {word}' for word in one.split())}")
    return given


def _rights(command: Any) -> Any:
    several: Any = {"multiple": True, "callback": _words}
    for option in (
        click.option("--role", "roles", metavar="R", help="A role of theirs; may be given several times.", **several),
        click.option("--permission", "permissions", metavar="P", help="A permission of theirs; may be given several times.", **several),
    ):
        command = option(command)
    return command


@click.group(short_help="Issue and inspect tokens.")
def token() -> None:
    """Issue and inspect the tokens that say who calls."""


@token.command("issue", short_help="Print a token.")
@click.option("--subject", required=True, metavar="S", help="Whom it is for.")
@_rights
@click.option("--ttl", metavar="TIME", help="How long it is good, such as 1h; auth_access_ttl if not given.")
@env_file_option
@json_option
def issue(**given: Any) -> None:
    """Print one token, signed by AUTH_SECRET_KEY or the private key in AUTH_KEYS, for `cliffracer call --token` and for curl."""
    do("tokens:issue", **given)


@token.command("inspect", short_help="Show what is in a token.")
@click.argument("text", metavar="TOKEN")
@env_file_option
@json_option
def inspect(**given: Any) -> None:
    """Show header and claims of TOKEN (- reads standard input), and whether it is good here. Exits with 1 if it is not."""
    do("tokens:inspect", **given)


@click.group(short_help="Look after the accounts of an app that has them.")
def users() -> None:
    """Look after who may sign in to an app that uses Accounts; keys and database are those of the settings."""


@users.command("add", short_help="Add an account.")
@click.argument("username")
@_rights
@json_option
def users_add(**given: Any) -> None:
    """Add the account USERNAME; the password is asked for, or read from standard input."""
    do("users:add", **given)


@users.command("ls", short_help="List the accounts.")
@json_option
def users_ls(**given: Any) -> None:
    """List who may sign in, and what they may do."""
    do("users:ls", **given)


@users.command("roles", short_help="Set what an account may do.")
@click.argument("username")
@_rights
@click.option("--disable", is_flag=True, help="Let them sign in no more; without it, they may again.")
@json_option
def users_roles(**given: Any) -> None:
    """Set the roles and permissions of USERNAME to those that are given; their sessions end at once."""
    do("users:change", **given)


@click.group(short_help="Issue and revoke API keys of an app that takes them.")
def keys() -> None:
    """Issue, rotate and revoke the API keys of an app that uses ApiKeys; database and NATS are those of the settings."""


@keys.command("issue", short_help="Print a new key.")
@click.argument("name")
@click.option("--subject", default="", metavar="S", help="Whom it acts as; key:NAME if not given.")
@_rights
@click.option("--ttl", metavar="TIME", help="How long it is good, such as 90d; until it is revoked if not given.")
@json_option
def keys_issue(**given: Any) -> None:
    """Print a new key called NAME, with no more than the roles and permissions that are given. It is shown once: only its hash is kept."""
    do("keys:issue", **given)


@keys.command("ls", short_help="List the keys.")
@json_option
def keys_ls(**given: Any) -> None:
    """List the keys, what they may do, and when they were last used."""
    do("keys:ls", **given)


@keys.command("rotate", short_help="Print a new secret of a key.")
@click.argument("id")
@click.option("--overlap", default="0s", show_default=True, metavar="TIME", help="How long the old one stays good, such as 1h.")
@json_option
def keys_rotate(**given: Any) -> None:
    """Print a new secret of the key ID, with the same rights; give it to whoever uses the old one within the overlap."""
    do("keys:rotate", **given)


@keys.command("revoke", short_help="Refuse a key everywhere.")
@click.argument("id")
@json_option
def keys_revoke(**given: Any) -> None:
    """Refuse the key ID everywhere, within a second, and end what was opened with it."""
    do("keys:revoke", **given)
