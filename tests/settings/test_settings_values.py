"""How each kind of setting is written, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliffracer.errors import SetupError
from cliffracer.settings import Secret, Settings
from cliffracer.settings.fields import fields_of

DESIGNED = [
    "env", "namespace", "wait", "drain", "deadline", "limit", "nats_url", "nats_user", "nats_password", "nats_token",
    "nats_creds", "nats_nkey", "nats_tls_ca", "nats_tls_cert", "nats_tls_key", "nats_transport", "database_url", "db_host",
    "db_port", "db_name", "db_user", "db_password", "database_pool_min", "database_pool_max", "database_pool_timeout",
    "database_urls", "database_suspicious_input", "batch_size", "http_host", "http_port", "http_max_body", "http_timeout",
    "cors_origins", "static_base_url", "trusted_proxies", "auth_secret_key", "auth_keys", "auth_issuer", "auth_audience",
    "auth_required", "auth_access_ttl", "auth_refresh_ttl", "oidc_issuer", "oidc_client_id", "oidc_client_secret", "log_level",
    "log_format", "log_calls", "metrics", "docs",
]  # fmt: skip
ADDED = [
    "nats_replicas",
    "nats_max_message",
    "redis_url",
    "auth_backlog",
]  # a cluster, how large a message may be, a cache, how long events may wait

READ = [
    ("env", "Production", "production"),
    ("namespace", " blue-1 ", "blue-1"),
    ("wait", "0", 0.0),
    ("drain", "30s", 30.0),
    ("deadline", "500ms", 0.5),
    ("auth_access_ttl", "1h30m", 5400.0),
    ("auth_refresh_ttl", "7d", 604_800.0),
    ("limit", "+25", 25),
    ("nats_url", "nats://a:4222, tls://b", "nats://a:4222,tls://b"),
    ("nats_url", "localhost:4222", "localhost:4222"),
    ("nats_replicas", "3", 3),
    ("nats_max_message", "8MiB", 8 * 2**20),
    ("nats_url", "nats://u:p%40@[::1]:4222", "nats://u:p%40@[::1]:4222"),
    ("nats_nkey", "-----BEGIN-----", Secret("-----BEGIN-----")),
    ("nats_creds", "-----BEGIN\nUSER-----\n", Secret("-----BEGIN\nUSER-----")),
    ("database_url", "postgresql:///shop", "postgresql:///shop"),
    ("database_url", "postgres://u:p@h1:5432,h2:5433/db?x=1", "postgres://u:p@h1:5432,h2:5433/db?x=1"),
    ("database_urls", "postgres://a/x,postgres://b/x", ("postgres://a/x", "postgres://b/x")),
    ("database_urls", "postgres://a,b:7/x, postgres://c,d/y?a=1,", ("postgres://a,b:7/x", "postgres://c,d/y?a=1")),
    ("db_password", " kept as it is ", Secret(" kept as it is ")),
    ("http_max_body", "1MB", 1_000_000),
    ("http_max_body", "1.5 MiB", 1_572_864),
    ("http_max_body", "64k", 64_000),
    ("http_port", "0", 0),
    ("cors_origins", "https://a.org, http://localhost:3000,,", ("https://a.org", "http://localhost:3000")),
    ("trusted_proxies", "10.0.0.0/8,::1", ("10.0.0.0/8", "::1")),
    ("static_base_url", "https://cdn.example.org/app/", "https://cdn.example.org/app"),
    ("static_base_url", "/static", "/static"),
    ("oidc_issuer", "https://id.example.org/realms/x", "https://id.example.org/realms/x"),
    ("log_level", "debug", "DEBUG"),
    ("log_calls", "1%", 0.01),
    ("log_calls", "1", 1.0),
    *(("auth_required", word, True) for word in ("yes", "YES", "on", "1", "true", "y", " True ")),
    *(("metrics", word, False) for word in ("no", "off", "0", "False", "n")),
]

REFUSED = [
    ("env", "prod"),
    ("namespace", "a.b"),
    ("namespace", "n" * 65),
    ("wait", "NaN"),
    ("wait", "inf"),
    ("wait", "-1"),
    ("wait", "1e400"),
    ("drain", "9" * 400 + "s"),
    ("drain", "soon"),
    ("deadline", "0"),
    ("deadline", "2d"),
    ("limit", "0"),
    ("limit", "1.5"),
    ("limit", "9" * 5000),
    ("limit", "٣"),
    ("http_port", "-1"),
    ("http_port", "65536"),
    ("http_port", "eighty"),
    ("http_port", "80\x0080"),
    ("db_port", "0"),
    ("nats_replicas", "6"),
    ("nats_max_message", "2GiB"),
    ("nats_url", "http://localhost"),
    ("nats_url", "nats://"),
    ("nats_url", "nats://a b"),
    ("nats_url", "nats://h:99999"),
    ("nats_url", "nats://h:port"),
    ("nats_url", "nats://[::1"),
    ("nats_url", ","),
    ("nats_url", "nats://h\r\nPUB x 1"),
    ("nats_user", "a\nb"),
    ("nats_user", "\udcff"),
    ("db_password", "p\x00w"),
    ("database_url", "mysql://h/db"),
    ("database_url", "host=localhost dbname=x"),
    ("database_pool_max", "0"),
    ("http_max_body", "-1MB"),
    ("http_max_body", "1TB"),
    ("http_max_body", "9" * 15 + "GB"),
    ("cors_origins", "https://a.org/"),
    ("cors_origins", "a.org"),
    ("trusted_proxies", "everyone"),
    ("static_base_url", "cdn"),
    ("auth_required", "maybe"),
    ("auth_required", "2"),
    ("oidc_issuer", "id.example.org"),
    ("log_level", "LOUD"),
    ("log_calls", "2"),
    ("log_calls", "nan"),
    ("log_calls", "101%"),
]


def test_the_fields_are_those_of_the_contract() -> None:
    """A service has exactly the settings that the design names, and those that a promise about events cannot be kept without."""
    assert [name for name in Settings.__struct_fields__ if name not in ADDED] == DESIGNED
    assert set(Settings.__struct_fields__) == {*DESIGNED, *ADDED}


@pytest.mark.parametrize(("name", "text", "value"), READ)
def test_text_is_read(load, name: str, text: str, value: object) -> None:
    """A variable's text becomes the value that the field's kind says."""
    assert getattr(load({f"CLIFFRACER_{name.upper()}": text}), name) == value


@pytest.mark.parametrize(("name", "text", "value"), READ)
def test_arguments_are_read_alike(name: str, text: str, value: object) -> None:
    """The constructor takes the same texts as the environment, and also the values themselves."""
    assert getattr(Settings(**{name: text}), name) == value
    assert getattr(Settings(**{name: value}), name) == value


@pytest.mark.parametrize(("name", "text"), REFUSED)
def test_bad_text_is_refused(load, name: str, text: str) -> None:
    """A value that cannot be read names its variable and its place in one line."""
    variable = f"CLIFFRACER_{name.upper()}"
    with pytest.raises(SetupError, match=rf"^{variable} \(environment\) .* wanted") as caught:
        load({variable: text})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "given",
    [
        {"limit": True}, {"limit": 2.0}, {"limit": None}, {"limit": 10**400}, {"wait": math.nan}, {"wait": 10**400}, {"wait": True},
        {"http_port": [80]}, {"http_port": 8000.0}, {"metrics": "x"}, {"metrics": 1.0}, {"metrics": 2}, {"nats_url": 7},
        {"cors_origins": {"a": 1}}, {"cors_origins": [1]}, {"auth_secret_key": b"x" * 32}, {"auth_secret_key": Secret(5)},
        {"log_level": 10}, {"log_calls": True}, {"env": None},
    ],
    ids=str,
)  # fmt: skip
def test_arguments_of_other_types_are_refused(given: dict[str, object]) -> None:
    """An argument whose type does not fit is a SetupError that names the field."""
    with pytest.raises(SetupError, match=rf"^{next(iter(given))} \(argument\)"):
        Settings(**given)


def test_all_mistakes_are_told_at_once(load) -> None:
    """Three mistakes are one message of three lines, so that nobody has to start four times."""
    with pytest.raises(SetupError) as caught:
        load({"CLIFFRACER_LIMIT": "x", "HTTP_PORT": "y"}, wiat=3)
    assert str(caught.value).splitlines() == [
        "3 settings are wrong:",
        "  there is no setting wiat; did you mean wait?",
        "  CLIFFRACER_LIMIT (environment) is 'x': a whole number from 1 to 1000000 is wanted",
        "  HTTP_PORT (environment) is 'y': a whole number from 0 to 65535 is wanted",
    ]


@pytest.mark.parametrize("name", DESIGNED)
@given(
    value=st.one_of(
        st.text(max_size=40), st.integers(), st.floats(), st.lists(st.text(max_size=5), max_size=3), st.booleans(), st.binary(max_size=4)
    )
)
def test_a_reader_answers_or_says_what_is_wanted(name: str, value: object) -> None:
    """Whatever is given, a reader returns a value that it takes again unchanged, or raises ValueError."""
    read = fields_of(Settings)[name].read
    try:
        first = read(value)
    except ValueError as error:
        told = str(error)
    else:
        told = "wanted" if read(first) == first else "changed"
    assert "wanted" in told


@given(st.floats(min_value=0, max_value=86_400))
def test_seconds_survive_being_written(value: float) -> None:
    """A number of seconds that Python printed is read back as the same number."""
    assert Settings(wait=repr(value)).wait == value
