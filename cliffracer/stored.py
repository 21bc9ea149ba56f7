"""The database of running apps: opened once for all of them, given to handlers as Database, Transaction or Repository."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar, get_args

from cliffracer.app import App, Frozen
from cliffracer.database import Database, Model, Repository, create_missing
from cliffracer.errors import SetupError
from cliffracer.observability.health import Health
from cliffracer.provisioning import PerCall
from cliffracer.settings import Settings
from cliffracer.signature import bare, dotted, read

M = TypeVar("M", bound=Model)


@asynccontextmanager
async def database_of(apps: Sequence[App], frozen: Sequence[Frozen], settings: Settings, health: Health) -> AsyncIterator[dict[str, Any]]:
    """Open the pool, make the tables that are absent (in development only), and return what is given for each annotation."""
    models = models_of(frozen)
    async with Database.open(settings, name="+".join(f.name for f in frozen), wait=settings.wait) as database:
        if settings.env != "production":
            await create_missing(database, models)
        for app in apps:
            app.databases.append(database)
        health.add("database", lambda: database.fetch_value(int, "select 1"))
        try:
            yield given_by(database)
        finally:
            for app in apps:
                app.databases.remove(database)


def given_by(database: Database) -> dict[str, Any]:
    """Return what a handler is given for each annotation that the database answers."""
    return {
        "cliffracer.database.database.Database": lambda _: database,
        "cliffracer.database.transaction.Transaction": lambda _: PerCall(open=lambda _call: database.transaction()),
        "cliffracer.database.repository.Repository": lambda annotation: database.repository(_model_of(annotation)),
    }


def models_of(frozen: Sequence[Frozen]) -> list[type[Model]]:
    """Return the models that apps keep, each once, in order of first mention."""
    found: dict[type[Model], None] = {}
    for app in frozen:
        signatures = [*(d.signature for d in app.declared if d.signature), *(read(function) for function in app.others)]
        for signature in signatures:
            for parameter in signature.needs:
                if dotted(bare(parameter.annotation)) == "cliffracer.database.repository.Repository":
                    found[_model_of(parameter.annotation)] = None
        found.update(dict.fromkeys(app.models))
    return list(found)


def repository_of(app: App, model: type[M]) -> Repository[M]:
    """Return a repository that uses the database of the app, whenever it runs."""
    return Repository(_DatabaseOf(app), model)  # type: ignore[arg-type]  # it stands in for the one that is open later


class _DatabaseOf:
    """Stands for the database that an app has while it runs."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __getattr__(self, name: str) -> Any:
        if not self._app.databases:
            raise SetupError(f"{self._app.name} is not running, so its database is not open. Use it in a handler, or while the app runs.")
        return getattr(self._app.databases[-1], name)


def _model_of(annotation: Any) -> type[Any]:
    given = get_args(bare(annotation))
    if not given:
        raise SetupError("Repository needs a model: write Repository[User].")
    model: type[Any] = given[0]
    return model
