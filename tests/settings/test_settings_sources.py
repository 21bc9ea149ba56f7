"""Where settings are found, and which place wins."""

from itertools import combinations
from pathlib import Path

import pytest

from cliffracer.errors import SetupError
from cliffracer.settings import Settings

PLACES = ("argument", "environment", ".env", "cliffracer.toml", "pyproject.toml")
ORIGINS = {
    "argument": "argument",
    "environment": "environment CLIFFRACER_LIMIT",
    ".env": ".env line 2",
    "cliffracer.toml": "cliffracer.toml",
    "pyproject.toml": "pyproject.toml",
}


def placed(folder: Path, places: tuple[str, ...]) -> Settings:
    """Give ``limit`` another value in each place, the first of `PLACES` the lowest."""
    value = {place: number for number, place in enumerate(PLACES, 1)}
    if ".env" in places:
        (folder / ".env").write_text(f"# mine\nCLIFFRACER_LIMIT={value['.env']}\n")
    if "cliffracer.toml" in places:
        (folder / "cliffracer.toml").write_text(f"limit = {value['cliffracer.toml']}\n")
    if "pyproject.toml" in places:
        (folder / "pyproject.toml").write_text(f"[tool.cliffracer]\nlimit = {value['pyproject.toml']}\n")
    environ = {"CLIFFRACER_LIMIT": str(value["environment"])} if "environment" in places else {}
    given = {"limit": value["argument"]} if "argument" in places else {}
    return Settings.load(folder=folder, environ=environ, **given)


@pytest.mark.parametrize("places", [places for count in range(1, 6) for places in combinations(PLACES, count)], ids="+".join)
def test_the_first_place_wins(tmp_path: Path, places: tuple[str, ...]) -> None:
    """Arguments win over the environment, that over .env, that over cliffracer.toml, that over pyproject.toml."""
    settings = placed(tmp_path, places)
    assert settings.limit == PLACES.index(places[0]) + 1
    assert str(settings.origin("limit")) == ORIGINS[places[0]]


def test_nothing_given_is_the_default(load) -> None:
    """Without any place a setting has its default, and says so."""
    settings = load()
    assert (settings.limit, str(settings.origin("limit")), settings.given("limit")) == (100, "default", False)
    assert settings == Settings()


@pytest.mark.parametrize("variable", ["NATS_URL", "DATABASE_URL", "DB_HOST", "BATCH_SIZE", "HTTP_PORT", "CORS_ORIGINS", "STATIC_BASE_URL",
                                      "TRUSTED_PROXIES", "AUTH_REQUIRED", "OIDC_CLIENT_ID", "LOG_LEVEL", "LOG_CALLS"])  # fmt: skip
def test_common_names_need_no_prefix(load, variable: str) -> None:
    """The NATS, database, HTTP, identity and log settings are read by their usual names."""
    name, value = variable.lower(), {"NATS_URL": "nats://h", "DATABASE_URL": "postgres://h/x", "CORS_ORIGINS": "*", "STATIC_BASE_URL": "/s",
                                     "TRUSTED_PROXIES": "*", "LOG_LEVEL": "ERROR"}.get(variable, "1")  # fmt: skip
    assert load({variable: value}).origin(name).key == variable


@pytest.mark.parametrize("variable", ["ENV", "NAMESPACE", "WAIT", "DRAIN", "DEADLINE", "LIMIT", "METRICS", "DOCS"])
def test_words_that_others_use_need_the_prefix(load, variable: str) -> None:
    """A variable with an everyday name that some other program set is not taken for ours."""
    assert load({variable: "whatever"}) == Settings()


def test_the_prefix_wins(load) -> None:
    """Of NATS_URL and CLIFFRACER_NATS_URL the second counts."""
    assert load({"NATS_URL": "nats://a", "CLIFFRACER_NATS_URL": "nats://b"}).nats_url == "nats://b"


def test_an_empty_variable_stands_for_the_default(tmp_path: Path, load) -> None:
    """``NATS_URL=`` in the environment hides the one in .env, as Compose files do it."""
    (tmp_path / ".env").write_text("NATS_URL=nats://a\nHTTP_PORT=9000\n")
    settings = load({"NATS_URL": "", "HTTP_PORT": " "})
    assert (settings.nats_url, settings.http_port, settings.given("nats_url")) == (None, 8000, False)


def test_an_argument_of_none_is_not_given(load) -> None:
    """A command line can pass on options that its user left out."""
    assert load({"HTTP_PORT": "9000"}, http_port=None).http_port == 9000


def test_another_env_file(tmp_path: Path, load) -> None:
    """`env_file` is read instead of .env, and must exist."""
    (tmp_path / ".env").write_text("HTTP_PORT=1\n")
    (tmp_path / "staging.env").write_text("HTTP_PORT=2\n")
    settings = load(env_file=tmp_path / "staging.env")
    assert (settings.http_port, str(settings.origin("http_port"))) == (2, "staging.env line 1")
    with pytest.raises(SetupError, match=r"There is no file .*gone\.env"):
        load(env_file=tmp_path / "gone.env")


def test_toml_has_types(tmp_path: Path, load) -> None:
    """Numbers, booleans and arrays may be written as TOML has them, or as text."""
    (tmp_path / "cliffracer.toml").write_text(
        'metrics = false\nwait = 5\ndrain = "1m"\nlog_calls = 0.5\ncors_origins = ["https://a.org"]\nhttp_max_body = "1MB"\n'
    )
    found = load()
    assert (found.metrics, found.wait, found.drain, found.log_calls) == (False, 5.0, 60.0, 0.5)
    assert (found.cors_origins, found.http_max_body) == (("https://a.org",), 1_000_000)


@pytest.mark.parametrize("content", ["[tool.other]\nx = 1\n", "[project]\nname = 'x'\n", ""])
def test_a_pyproject_of_others_is_left_alone(tmp_path: Path, load, content: str) -> None:
    """A pyproject.toml without our table gives nothing."""
    (tmp_path / "pyproject.toml").write_text(content)
    assert load() == Settings()


UNKNOWN = [
    ("environment", "CLIFFRACER_NATS_ULR", "CLIFFRACER_NATS_ULR (environment) is no setting; did you mean CLIFFRACER_NATS_URL?"),
    (
        "environment",
        "CLIFFRACER_HTTP_PORT_FIEL",
        "CLIFFRACER_HTTP_PORT_FIEL (environment) is no setting; did you mean CLIFFRACER_HTTP_PORT_FILE?",
    ),
    ("environment", "CLIFFRACER_ZZZ", "CLIFFRACER_ZZZ (environment) is no setting."),
    (".env", "cliffracer_limit", "cliffracer_limit (.env line 1) is no setting; did you mean CLIFFRACER_LIMIT?"),
    (".env", "CLIFFRACER_LIMITS", "CLIFFRACER_LIMITS (.env line 1) is no setting; did you mean CLIFFRACER_LIMIT?"),
    ("cliffracer.toml", "nats_ulr", "cliffracer.toml has 'nats_ulr', which is no setting; did you mean nats_url?"),
    ("cliffracer.toml", "NATS_URL", "cliffracer.toml has 'NATS_URL', which is no setting; did you mean nats_url?"),
    ("pyproject.toml", "limitt", "pyproject.toml has 'limitt', which is no setting; did you mean limit?"),
]


@pytest.mark.parametrize(("place", "key", "message"), UNKNOWN)
def test_an_unknown_name_stops_the_start(tmp_path: Path, load, place: str, key: str, message: str) -> None:
    """A name that is no setting is told with its place, and the one that was meant."""
    if place.endswith(".toml"):
        (tmp_path / place).write_text(f'{"[tool.cliffracer]" if place == "pyproject.toml" else ""}\n{key} = "1"\n')
    elif place == ".env":
        (tmp_path / place).write_text(f"{key}=1\n")
    with pytest.raises(SetupError) as caught:
        load({key: "1"} if place == "environment" else {})
    assert str(caught.value) == message


def test_variables_of_the_development_servers_are_known(load) -> None:
    """CLIFFRACER_HOME and CLIFFRACER_DEV_GRACE are no settings and no mistakes; other names in .env are others' business."""
    assert load({"CLIFFRACER_HOME": "/x", "CLIFFRACER_DEV_GRACE": "1", "POSTGRES_PASSWORD": "x"}) == Settings()


def test_the_working_folder_is_where_files_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments, `load` takes the process's environment and the files of its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIFFRACER_NAMESPACE", "blue")
    (tmp_path / ".env").write_text("CLIFFRACER_WAIT=3\n")
    found = Settings.load()
    assert (found.namespace, found.wait) == ("blue", 3.0)


def test_making_settings_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``Settings()`` has what it is given and looks nowhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NATS_URL", "nats://h")
    (tmp_path / ".env").write_text("not a line\n")
    assert Settings().nats_url is None
