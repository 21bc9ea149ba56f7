"""Every setting of a service: one frozen struct, flat, with a default for each."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import msgspec
from msgspec.structs import force_setattr

from cliffracer.errors import SetupError
from cliffracer.settings import checks, fields, values
from cliffracer.settings.secret import Secret
from cliffracer.settings.sources import ARGUMENT, DEFAULT, Found, Origin, Search

_DAY = 86_400.0
_YEAR = 366 * _DAY
_time = values.seconds(0, _DAY)
_budget = values.seconds(0.001, _DAY)
_count = values.whole(1, 1_000_000)
_postgres = ("postgresql", "postgres")

Text = Annotated[str | None, values.text]
Hidden = Annotated[Secret[str] | None, values.secret]
HiddenDocument = Annotated[Secret[str] | None, values.secret_document]


class Setting(NamedTuple):
    """One setting as it may be shown: secrets and passwords are masked."""

    name: str
    value: str
    origin: Origin


class Settings(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """All settings, checked. ``Settings(...)`` takes them as arguments only, `load` looks everywhere; SetupError for a bad one.

    Lengths of time are seconds (``"30s"`` and ``"1h"`` do too), sizes bytes (``"1MB"``), lists tuples (``"a,b"``).
    """

    env: Annotated[Literal["development", "test", "production"], values.choice("development", "test", "production")] = "development"
    """Where it runs: ``production`` starts no servers, makes no tables, and shows nothing that helps a stranger."""
    namespace: Annotated[str, values.name] = ""
    """Put before every subject, stream, bucket and consumer, so that environments can share one NATS."""
    wait: Annotated[float, _time] = 30.0
    """For NATS and PostgreSQL at start, before giving up."""
    drain: Annotated[float, _time] = 15.0
    """For accepted work to finish at stop."""
    deadline: Annotated[float, _budget] = 10.0
    """Of a call: how long a handler may take, and how long a caller waits, unless they say otherwise."""
    limit: Annotated[int, _count] = 100
    """Calls in flight per handler."""

    nats_url: Annotated[str | None, values.nats_servers] = None
    """One server or several, comma-separated; None: the embedded server, outside production."""
    nats_user: Text = None
    """With `nats_password`, for a server that asks for them; they may also be in the URL."""
    nats_password: Hidden = None
    """Of `nats_user`."""
    nats_token: Hidden = None
    """For a server that asks for a token."""
    nats_creds: HiddenDocument = None
    """The path of a credentials file, or what is in it (``-----BEGIN NATS USER JWT…``)."""
    nats_nkey: Hidden = None
    """The path of a file with an nkey seed, or the seed (``SU…``)."""
    nats_tls_ca: Annotated[str | None, values.document] = None
    """The authority that must have signed the server's certificate: the path of a PEM file, or its content, as with the two below."""
    nats_tls_cert: Annotated[str | None, values.document] = None
    """Our certificate, for a server that asks for one."""
    nats_tls_key: HiddenDocument = None
    """Its private key."""
    nats_transport: Annotated[Literal["fast", "stock"], values.choice("fast", "stock")] = "fast"
    """``stock``: nats-py's own reading and writing, in place of ours, which is faster."""
    nats_replicas: Annotated[int, values.whole(1, 5)] = 1
    """Servers of a cluster that keep each stream and bucket; with 3, nothing is lost if one of them is."""
    nats_max_message: Annotated[int, values.size(1, 2**30)] = 64 * 2**20
    """Of a call, a result or an event; one over the server's own limit goes through the object store."""

    database_url: Annotated[str | None, values.address(*_postgres)] = None
    """None: built from ``db_host`` or ``db_name`` if one is given, else the embedded server, outside production."""
    db_host: Text = None
    """The host of PostgreSQL, if its address is given in parts."""
    db_port: Annotated[int, values.whole(1, 65_535)] = 5432
    """Of `db_host`."""
    db_name: Text = None
    """The database."""
    db_user: Text = None
    """The user who connects."""
    db_password: Hidden = None
    """Of `db_user`."""
    database_pool_min: Annotated[int, values.whole(0, 10_000)] = 1
    """Connections that are kept open."""
    database_pool_max: Annotated[int, values.whole(1, 10_000)] = 10
    """Connections at once, in each process."""
    database_pool_timeout: Annotated[float, _budget] = 10.0
    """For a free connection, if the call's own deadline is not earlier."""
    database_urls: Annotated[tuple[str, ...], values.addresses(*_postgres)] = ()
    """The addresses of the shards."""
    database_suspicious_input: Annotated[Literal["log", "reject", "off"], values.choice("log", "reject", "off")] = "log"
    """Values that look like an injection are logged, refused as `InvalidInput`, or not checked."""
    batch_size: Annotated[int, _count] = 100
    """Rows that ``db.batch`` stores at a time."""

    redis_url: Annotated[str | None, values.address("redis", "rediss")] = None
    """Where ``@app.cached(store="redis")`` keeps answers."""

    http_host: Annotated[str, values.text] = ""
    """Not given: 0.0.0.0 in production, 127.0.0.1 elsewhere."""
    http_port: Annotated[int, values.whole(0, 65_535)] = 8000
    """0: any free one."""
    http_max_body: Annotated[int, values.size(1, 2**40)] = 10 * 2**20
    """Of a request; a larger one is `TooLarge`."""
    http_timeout: Annotated[float, _budget] = 30.0
    """For a client to send its request."""
    cors_origins: Annotated[tuple[str, ...], values.origins] = ()
    """Other sites whose pages may call: ``https://app.example.org``, or ``*``."""
    static_base_url: Annotated[str, values.base] = ""
    """Before the paths of static files, for a CDN; no slash at its end."""
    trusted_proxies: Annotated[tuple[str, ...], values.networks] = ()
    """Addresses or networks whose ``X-Forwarded-*`` headers are believed; ``*`` for all."""

    auth_secret_key: Hidden = None
    """Signs tokens by HS256: 32 bytes at least."""
    auth_keys: HiddenDocument = None
    """PEM keys or a JWKS, or the path of a file with them."""
    auth_issuer: Text = None
    """The required ``iss`` of a token, and that of our own tokens."""
    auth_audience: Text = None
    """The required ``aud`` of a token."""
    auth_required: Annotated[bool, values.flag] = False
    """Whether handlers without a rule are for authenticated callers only; `@public` ones are for everybody."""
    auth_access_ttl: Annotated[float, values.seconds(1, _YEAR)] = 900.0
    """How long access tokens are valid."""
    auth_refresh_ttl: Annotated[float, values.seconds(1, 10 * _YEAR)] = 30 * _DAY
    """How long refresh tokens are valid."""
    auth_backlog: Annotated[float, values.seconds(1, _YEAR)] = 30 * _DAY
    """How long an event of a caller may be delayed, or wait in a stream after its token has expired; revocations are remembered longer."""
    oidc_issuer: Annotated[str | None, values.address("https", "http")] = None
    """An OpenID Connect issuer whose tokens are accepted: its exact name."""
    oidc_client_id: Text = None
    """Our client id at the issuer."""
    oidc_client_secret: Hidden = None
    """The secret of that client; a public client has none."""

    log_level: Annotated[str, values.choice("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")] = "INFO"
    """The lowest level that is logged."""
    log_format: Annotated[Literal["auto", "human", "json"], values.choice("auto", "human", "json")] = "auto"
    """``auto``: human on a terminal, JSON elsewhere."""
    log_calls: Annotated[float, values.share] = 0.0
    """The share of calls that get a line in the log: 0 none, 1 all."""
    metrics: Annotated[bool, values.flag] = True
    """Whether ``/metrics`` is served."""
    docs: Annotated[bool | None, values.flag] = None
    """Whether ``/docs``, ``/openapi.json`` and ``/asyncapi.json`` are served. Not given: outside production only; a bool once made."""

    def __post_init__(self) -> None:
        read, origins = _settled(type(self), _differing(self), [])
        for name, value in read.items():
            force_setattr(self, name, value)
        self.__dict__["origins"] = origins

    @classmethod
    def load(
        cls,
        *,
        folder: Path | str | None = None,
        env_file: Path | str | None = None,
        environ: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> Self:
        """Return the settings from arguments, environment, ``.env``, ``cliffracer.toml`` or ``[tool.cliffracer]``, in that order.

        Files are those of ``folder`` (the working folder); ``env_file`` is another than its ``.env``. An argument of None is
        not given; an empty variable stands for the default. SetupError tells every unknown name and bad value, and where it is.
        """
        place = Path(folder) if folder is not None else Path()
        if env_file is not None and not Path(env_file).is_file():
            raise SetupError(f"There is no file {env_file}.")
        search = Search(cls.__struct_fields__)
        search.arguments(overrides)
        search.environment(os.environ if environ is None else environ)
        search.dotenv(place / ".env" if env_file is None else Path(env_file))
        search.toml(place / "cliffracer.toml")
        search.toml(place / "pyproject.toml", "tool", "cliffracer")
        return cls._made(search.found, search.problems)

    def changed(self, origin: str = "argument", **given: Any) -> Self:
        """Return a copy with other values, such as the URL of a server just started; ``origin`` says who gave them."""
        search = Search(self.__struct_fields__)
        search.arguments(given)
        found = {name: Found(getattr(self, name), where) for name, where in self._origins().items()}
        if found.get("database_url", _NOTHING).origin.place.startswith(checks.BUILT):
            del found["database_url"]
        found.update({name: Found(value, Origin(origin)) for name, (value, _) in search.found.items()})
        return self._made(found, search.problems)

    def given(self, name: str) -> bool:
        """Say whether a setting was given anywhere, rather than left at its default."""
        return name in self._origins()

    def origin(self, name: str) -> Origin:
        """Return where the value of a setting comes from."""
        return self._origins().get(name, DEFAULT)

    def sources(self) -> tuple[Setting, ...]:
        """Return every setting with its value, secrets masked, and where it comes from."""
        return tuple(Setting(name, self._shown(name), self.origin(name)) for name in self.__struct_fields__)

    @property
    def databases(self) -> tuple[str, ...]:
        """The addresses of all databases: of several (``database_urls``), of one, or none."""
        return self.database_urls or (() if self.database_url is None else (self.database_url,))

    @property
    def recognises(self) -> bool:
        """Whether they say whose tokens are good: by keys of ours, an issuer, or both."""
        return self.auth_secret_key is not None or self.auth_keys is not None or self.oidc_issuer is not None

    def require_servers(self, *, nats: bool = True, database: bool = False) -> None:
        """Refuse production without the URLs of these servers, since the embedded ones are for development."""
        needed = {"nats_url": nats, "database_url": database and not self.database_urls}
        missing = [name for name, is_needed in needed.items() if is_needed and not getattr(self, name)]
        if self.env == "production" and missing:
            raise SetupError(checks.without_servers(missing))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, self._shown(name)) for name in self._origins()]

    def _shown(self, name: str) -> str:
        return fields.shown(name, getattr(self, name))

    def _origins(self) -> dict[str, Origin]:
        if "origins" not in self.__dict__:  # a copy that msgspec made
            self.__dict__["origins"] = {name: found.origin for name, found in _differing(self).items()}
        found: dict[str, Origin] = self.__dict__["origins"]
        return found

    @classmethod
    def _made(cls, found: Mapping[str, Found], problems: list[str]) -> Self:
        read, origins = _settled(cls, found, problems)
        made = cls(**read)
        made.__dict__["origins"] = origins  # the constructor took all for arguments
        return made


Settings.__module__ = "cliffracer.settings"  # where users import it from

_NOTHING = Found(None, DEFAULT)


def _differing(settings: Settings) -> dict[str, Found]:
    """What was given to a constructor, as far as its values can tell: those that are not the default."""
    found = {}
    for name, field in fields.fields_of(type(settings)).items():
        value = getattr(settings, name)
        if type(value) is not type(field.default) or value != field.default:
            found[name] = Found(value, ARGUMENT)
    return found


def _settled(kind: type[Settings], found: Mapping[str, Found], problems: list[str]) -> tuple[dict[str, Any], dict[str, Origin]]:
    """Read and check all of it; SetupError with the problems found before, too."""
    read, origins = fields.read(kind, found, problems)
    if not problems:
        checks.derive(read, origins)
        problems = checks.compare(read, origins)
    if problems:
        raise SetupError(checks.summary(problems))
    return read, origins
