"""Secrets that never show."""

import copy
import json
import pickle
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliffracer.errors import SetupError
from cliffracer.settings import Secret, Settings, decode_secret, encode_secret, masked

MARK = "hunter2-whom-nobody-here-has-ever-met-6"
SECRETS = (
    "nats_password",
    "nats_token",
    "nats_creds",
    "nats_nkey",
    "nats_tls_key",
    "db_password",
    "auth_secret_key",
    "auth_keys",
    "oidc_client_secret",
)


def test_a_secret_does_not_show() -> None:
    """Every way of making text of a secret gives stars."""
    secret = Secret(MARK)
    ways = [repr(secret), str(secret), f"{secret}", f"{secret:>60}", f"{secret!r}", f"{secret!s}", "%s" % secret, "{}".format(secret),  # noqa: UP031, UP032
            repr([secret]), repr({"a": secret}), repr(ValueError(secret))]  # fmt: skip
    assert not any(MARK in way for way in ways)
    assert str(secret) == "***"
    assert secret.reveal() == MARK
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    """Pickle refuses a secret, so none gets into a queue or a cache by accident."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(MARK), protocol)


def test_copies_are_the_secret_itself() -> None:
    """Copying, also deeply, keeps the value."""
    secret = Secret(MARK)
    assert copy.copy(secret) is secret
    assert copy.deepcopy({"a": secret})["a"] is secret


def test_comparison() -> None:
    """Secrets of one text are equal, hash alike, and equal no plain text; an empty one is false."""
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret(b"a") == Secret(b"a") != Secret("a")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret(Secret("a"))}) == 1
    assert (bool(Secret("")), bool(Secret("a"))) == (False, True)
    assert Secret("\udcff") == Secret("\udcff")


class Held(msgspec.Struct):
    """A struct with secrets."""

    plain: Secret[str]
    many: list[Secret[int]] = []


def test_msgspec_hooks() -> None:
    """Decoding wraps the checked value, encoding writes stars."""
    held = msgspec.json.decode(b'{"plain": "x", "many": [1]}', type=Held, dec_hook=decode_secret)
    assert (held.plain, held.many) == (Secret("x"), [Secret(1)])
    assert msgspec.json.encode(held, enc_hook=encode_secret) == b'{"plain":"***","many":["***"]}'
    with pytest.raises(msgspec.ValidationError, match="Expected `str`"):
        msgspec.json.decode(b'{"plain": 1}', type=Held, dec_hook=decode_secret)
    with pytest.raises(TypeError, match="unsupported"):
        msgspec.json.encode(held)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://u:hunter2@h:1", "nats://u:***@h:1"),
        ("nats://hunter2@h", "nats://***@h"),
        ("nats://a:hunter2@h1,tls://b:hunter2@h2", "nats://a:***@h1,tls://b:***@h2"),
        ("u:hunter2@h1:4222,u:hunter2@h2", "u:***@h2"),
        ("nats://u:hunter2/@hunter2@h", "nats://u:***@h"),
        ("nats://u:hun,ter2@h", "nats://u:***@h"),
        ("postgresql://ada@h/db", "postgresql://ada@h/db"),
        ("postgresql://ada:hunter2@h/db?sslpassword=hunter2&x=1", "postgresql://ada:***@h/db?sslpassword=***&x=1"),
        ("postgresql://h/db?password=hunter2", "postgresql://h/db?password=***"),
        ("host=h password=hunter2 user=u", "host=h password=*** user=u"),
        ("host=h password='hun ter2\\' x' user=u", "host=h password=*** user=u"),
        ("nats://h:4222", "nats://h:4222"),
        ("", ""),
    ],
)
def test_passwords_in_urls_are_masked(url: str, shown: str) -> None:
    """What is secret in a URL or connection string is hidden, rather too much than too little."""
    assert masked(url) == shown


part = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=10)


@given(part, part)
def test_no_password_survives_masking(user: str, password: str) -> None:
    """Whatever characters a password has, encoded or not, it does not show."""
    assert masked(f"nats://{user.replace(':', '')}:§{password}§@h").count("§") == 0 or "§" in user


def outputs(settings: Settings) -> list[str]:
    """All that settings give out for people to read."""
    sources = settings.sources()
    return [repr(settings), str(settings), f"{settings}", repr(sources), str(sources), json.dumps(sources), repr(settings.__rich_repr__()),
            *(str(settings.origin(name)) for name in settings.__struct_fields__)]  # fmt: skip


def test_no_secret_shows_in_settings(load) -> None:
    """With a marker in every secret and every URL's password, nothing that settings print holds it."""
    given = {name.upper(): MARK for name in SECRETS} | {
        "NATS_TLS_CERT": "/cert.pem",
        "NATS_URL": f"nats://u:{MARK}@h,nats://{MARK}@h2",
        "DATABASE_URLS": f"postgres://u:{MARK}@h/a,postgres://h/b?password={MARK}",
        "DB_HOST": "db",
    }
    settings = load(given)
    assert settings.database_url == f"postgresql://:{MARK}@db:5432/"
    assert not [output for output in outputs(settings) if MARK in output]
    changed = settings.changed(http_port=1)
    assert not [output for output in outputs(changed) if MARK in output]


URLS = [name for name in Settings.__struct_fields__ if name.endswith(("url", "urls"))]
URL_FORMS = ["x://u:{}@h", "x://{}@h x", "u:{}@h\x00", "postgres://u:{}@h:x/?password={}", "nats://u:{}@h\udcff"]
FORMS = [(name, form) for name in (*SECRETS, *URLS) for form in URL_FORMS] + [
    (name, form) for name in SECRETS for form in ("{}\n", "{}\udcff", "{}\0")
]


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_no_message_holds_a_secret(load, name: str, form: str) -> None:
    """A secret or a URL that cannot be read is told without its secret part."""
    value = form.format(MARK, MARK)
    try:
        told = outputs(load({f"CLIFFRACER_{name.upper()}": value}))
    except SetupError as error:
        told = [str(error), repr(error), repr(error.__cause__)]
    assert not [output for output in told if MARK in output]


def test_no_message_holds_a_secret_of_a_broken_env_file(tmp_path: Path, load) -> None:
    """A .env line that cannot be read is told by its number alone."""
    (tmp_path / ".env").write_text(f"DB_PASSWORD='{MARK}\n")
    with pytest.raises(SetupError) as caught:
        load()
    assert MARK not in str(caught.value)
    assert "line 1" in str(caught.value)


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=8, max_size=40).filter(
        lambda text: text.strip() and "*" not in text
    )
)
def test_any_secret_stays_hidden(text: str) -> None:
    """No text of a password shows in what settings print, also in the database URL that is built from it."""
    settings = Settings(db_host="h", db_password=text + "§" * 9)
    assert not [output for output in outputs(settings) if "§§§" in output or "%C2%A7" in output]
    assert settings.db_password == Secret(text + "§" * 9)
