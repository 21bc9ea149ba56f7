"""No secret gets into a log."""

import logging
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from cliffracer.console.tailing import shown as shown_in_the_console
from cliffracer.events import Received
from cliffracer.observability.lines import LONGEST
from cliffracer.observability.logs import log
from cliffracer.observability.redact import Redaction, unsecret
from cliffracer.settings import Secret, Settings

MARK = "hunter2/@:é\"'hunter3"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"


class Client:
    """A library's object that shows its password."""

    def __repr__(self) -> str:
        return f"Client(password={MARK!r})"


@pytest.mark.parametrize("form", ["human", "json"])
def test_configured_secrets_do_not_show(configure, form: str) -> None:
    """Secrets of the settings are hidden in messages, fields, tracebacks and libraries' records, however they are written."""
    settings = {
        "nats_password": MARK,
        "nats_url": "nats://t0kent0ken@h:4222",
        "db_host": "h",
        "db_password": f"{MARK}4",
        "database_urls": f"postgres://u:{quote(MARK, safe='')}5@h/x",
        "auth_keys": f"-----BEGIN\n{MARK}6\n-----END",
    }
    lines = configure(log_format=form, **settings)
    shown = Settings(**settings)
    log.info(f"connecting with {MARK} to {shown.nats_url} and {shown.database_url}")
    log.info("x", client=Client(), url=shown.database_url, urls=list(shown.database_urls), settings=shown, **{MARK: {MARK: [MARK]}})
    logging.getLogger("lib").error("failed for %s", MARK, extra={"dsn": shown.database_url})
    assert shown.auth_keys is not None
    log.opt(exception=ConnectionError(f"no way to {shown.database_url} with {shown.auth_keys.reveal()}")).error("gone")
    text = lines.text()
    assert text.count("***") >= 10
    for leak in ("hunter2", "hunter3", "t0ken"):
        assert leak not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"token {TOKEN}", "token ***"),
        (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer ***"),
        ("authorization: bearer abcdefghij", "authorization: bearer ***"),
        ("Basic dXNlcjpwYXNz", "Basic ***"),
        ("see nats://u:p@h:4222", "see nats://***@h:4222"),
        ("see postgres://u:p/w@x@h/db.", "see postgres://***@h/db."),
        ("http://localhost:8000/?mail=a@b.c", "http://localhost:8000/?mail=a@b.c"),
        ("http://h/x and ada@example.org", "http://h/x and ada@example.org"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, shown: str) -> None:
    """Tokens, authorization headers and passwords in URLs are hidden though nobody configured them."""
    assert Redaction(Settings())(text) == shown


@pytest.mark.parametrize(
    ("name", "urls", "passwords"),
    [
        ("database_url", "postgres://u:swordfish,marlin@h,i/x", ["swordfish,marlin"]),
        ("database_urls", "postgres://u:swordfish,marlin@h/x,postgres://u:mackerel@i/y", ["swordfish,marlin", "mackerel"]),
        ("nats_url", "nats://u:swordfish@h,v:marlin@i,tls://mackerel@j", ["swordfish", "marlin", "mackerel"]),
        ("nats_url", "u:swordfish@h:4222", ["swordfish"]),
    ],
)
def test_passwords_of_several_urls_are_hidden_by_themselves(name: str, urls: str, passwords: list[str]) -> None:
    """Where no URL is around them: also one with a comma in it, and that of a server whose scheme is left out."""
    redacted = Redaction(Settings(**{name: urls}))
    assert [redacted(password) for password in passwords] == ["***"] * len(passwords)


def test_words_are_no_secrets() -> None:
    """A development password that is a word, or too short, is not replaced wherever the word stands; nor is a path."""
    redacted = Redaction(Settings(db_host="h", db_password="postgres", nats_password="abc", nats_creds="/run/secrets/nats.creds"))
    text = "postgres said abc of /run/secrets/nats.creds"
    assert redacted(text) == text


@pytest.mark.parametrize("form", ["human", "json"])
def test_a_secret_at_the_cut_is_hidden_whole(configure, form: str) -> None:
    """A text that is cut in the middle of a secret shows no half of it."""
    lines = configure(log_format=form, nats_password=MARK)
    log.info("x" * (LONGEST - 9) + MARK, value="y" * (LONGEST - 9) + MARK)
    assert "hunter" not in lines.text()


def test_a_secret_that_is_like_json_breaks_no_line(configure) -> None:
    """A password of digits or of a field's name changes values, never the line's own shape."""
    lines = configure(log_format="json", nats_password="message", db_password="1234567", nats_token='","level":"')
    log.info("message", number=1234567)
    line = lines.one()
    assert (line["message"], line["level"], line["number"]) == ("***", "INFO", 1234567)


@profile(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(
    secret=st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=8, max_size=20).filter(lambda text: "§" not in text)
)
@pytest.mark.parametrize("form", ["human", "json"])
def test_any_configured_secret_is_hidden(configure, form: str, secret: str) -> None:
    """No characters of a secret get it past the redaction."""
    secret = f"§§§{secret}§§§"
    lines = configure(log_format=form, nats_password=secret)
    log.bind(value=secret, inside=[secret], shown=repr([secret]), hidden=Secret(secret)).info("got " + secret.replace("{", "{"))
    assert "§§§" not in lines.text()


def test_what_is_shown_of_an_event_has_no_secret() -> None:
    """Neither in its headers nor in its data, and data of any depth harms nobody who looks."""
    event: Received[object] = Received(
        data={"username": "ada", "token": "hunter2", "more": [{"Secret": 7}]}, subject="a", headers={"Authorization": "x", "b": "c"}
    )
    found = shown_in_the_console(event)
    assert found["data"] == {"username": "ada", "token": "***", "more": [{"Secret": "***"}]}
    assert found["headers"] == {"Authorization": "***", "b": "c"}
    deep: object = "hunter2"
    for _ in range(5_000):
        deep = [{"a": deep}]
    assert "hunter2" not in msgspec.json.encode(unsecret(deep)).decode()
