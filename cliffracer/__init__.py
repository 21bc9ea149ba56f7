"""Cliffracer: one file, one service. RPC, durable events, HTTP and WebSockets, declared on a module-level `App`.

Importing it is light: what needs NATS, PostgreSQL, Starlette or uvicorn is imported when it is first used.
"""

TYPE_CHECKING = False  # typing's own would have it imported, and Ctrl-C that early meets nobody who expects it
if TYPE_CHECKING:  # type checkers and editors see every name; each is imported when it is first used
    from starlette.datastructures import UploadFile
    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from cliffracer.app import App
    from cliffracer.blocking import Client, connect
    from cliffracer.client import AsyncClient, connect_async
    from cliffracer.context import Context
    from cliffracer.database.database import Database
    from cliffracer.database.model import Index, Model, References, Search, Shard, Unique
    from cliffracer.database.pages import Page
    from cliffracer.database.repository import Repository
    from cliffracer.database.transaction import Transaction
    from cliffracer.errors import (
        Cancelled,
        CliffracerError,
        Conflict,
        DeadlineExceeded,
        Forbidden,
        Internal,
        InvalidInput,
        NotFound,
        Overloaded,
        ServiceError,
        SetupError,
        TooLarge,
        Unauthenticated,
        Unavailable,
    )
    from cliffracer.events import Event, Received, Rejected
    from cliffracer.markers import Cookie, Header, Query, provided
    from cliffracer.messaging.keyvalue import KeyValue
    from cliffracer.messaging.objects import ObjectStore
    from cliffracer.messaging.stores import Bucket
    from cliffracer.resilience.policies import Breaker, Retry
    from cliffracer.resilience.resilient import resilient
    from cliffracer.scope import Group
    from cliffracer.security.access import Access
    from cliffracer.security.accounts import Accounts
    from cliffracer.security.apikeys import ApiKeys
    from cliffracer.security.claims import Claims
    from cliffracer.security.guards import public, requires
    from cliffracer.security.identity import Identity
    from cliffracer.security.keyring import Keyring
    from cliffracer.security.login import BrowserLogin
    from cliffracer.security.tickets import Tickets
    from cliffracer.settings import Secret, Settings

__version__ = "0.1.0"

__all__ = [
    "Access",
    "Accounts",
    "ApiKeys",
    "App",
    "AsyncClient",
    "Breaker",
    "BrowserLogin",
    "Bucket",
    "Cancelled",
    "Claims",
    "Client",
    "CliffracerError",
    "Conflict",
    "Context",
    "Cookie",
    "Database",
    "DeadlineExceeded",
    "Event",
    "Forbidden",
    "Group",
    "Header",
    "Identity",
    "Index",
    "Internal",
    "InvalidInput",
    "KeyValue",
    "Keyring",
    "Model",
    "NotFound",
    "ObjectStore",
    "Overloaded",
    "Page",
    "Query",
    "Received",
    "References",
    "Rejected",
    "Repository",
    "Request",
    "Retry",
    "Search",
    "Secret",
    "ServiceError",
    "Settings",
    "SetupError",
    "Shard",
    "Tickets",
    "TooLarge",
    "Transaction",
    "Unauthenticated",
    "Unavailable",
    "Unique",
    "UploadFile",
    "WebSocket",
    "connect",
    "connect_async",
    "provided",
    "public",
    "requires",
    "resilient",
]

_PLACES = {
    "Access": "cliffracer.security.access",
    "Accounts": "cliffracer.security.accounts",
    "ApiKeys": "cliffracer.security.apikeys",
    "App": "cliffracer.app",
    "AsyncClient": "cliffracer.client",
    "BrowserLogin": "cliffracer.security.login",
    "Breaker": "cliffracer.resilience.policies",
    "Bucket": "cliffracer.messaging.stores",
    "Cancelled": "cliffracer.errors",
    "Claims": "cliffracer.security.claims",
    "Client": "cliffracer.blocking",
    "CliffracerError": "cliffracer.errors",
    "Conflict": "cliffracer.errors",
    "Context": "cliffracer.context",
    "Cookie": "cliffracer.markers",
    "Database": "cliffracer.database.database",
    "DeadlineExceeded": "cliffracer.errors",
    "Event": "cliffracer.events",
    "Forbidden": "cliffracer.errors",
    "Group": "cliffracer.scope",
    "Header": "cliffracer.markers",
    "Identity": "cliffracer.security.identity",
    "Index": "cliffracer.database.model",
    "Internal": "cliffracer.errors",
    "InvalidInput": "cliffracer.errors",
    "KeyValue": "cliffracer.messaging.keyvalue",
    "Keyring": "cliffracer.security.keyring",
    "Model": "cliffracer.database.model",
    "NotFound": "cliffracer.errors",
    "ObjectStore": "cliffracer.messaging.objects",
    "Overloaded": "cliffracer.errors",
    "Page": "cliffracer.database.pages",
    "Query": "cliffracer.markers",
    "Received": "cliffracer.events",
    "References": "cliffracer.database.model",
    "Rejected": "cliffracer.events",
    "Repository": "cliffracer.database.repository",
    "Request": "starlette.requests",
    "Retry": "cliffracer.resilience.policies",
    "Search": "cliffracer.database.model",
    "Secret": "cliffracer.settings",
    "ServiceError": "cliffracer.errors",
    "Settings": "cliffracer.settings",
    "SetupError": "cliffracer.errors",
    "Shard": "cliffracer.database.model",
    "Tickets": "cliffracer.security.tickets",
    "TooLarge": "cliffracer.errors",
    "Transaction": "cliffracer.database.transaction",
    "Unauthenticated": "cliffracer.errors",
    "Unavailable": "cliffracer.errors",
    "Unique": "cliffracer.database.model",
    "UploadFile": "starlette.datastructures",
    "WebSocket": "starlette.websockets",
    "connect": "cliffracer.blocking",
    "connect_async": "cliffracer.client",
    "provided": "cliffracer.markers",
    "public": "cliffracer.security.guards",
    "requires": "cliffracer.security.guards",
    "resilient": "cliffracer.resilience.resilient",
}

if not TYPE_CHECKING:  # or they would take any name

    def __getattr__(name: str) -> object:  # PEP 562
        import importlib  # noqa: PLC0415 - as above
        import sys  # noqa: PLC0415 - as above

        if name.startswith("_") or not name.isidentifier():
            raise AttributeError(f"module 'cliffracer' has no attribute {name!r}")
        place = _PLACES.get(name)
        try:
            value = importlib.import_module(place or f"cliffracer.{name}")
        except ModuleNotFoundError as error:
            if place or error.name != f"cliffracer.{name}":
                raise
            importing = sys._getframe(1).f_code.co_name == "_handle_fromlist"  # noqa: SLF001 - of an import statement, before it asks again
            raise importlib.import_module("cliffracer.suggestions").missing(name, importing=importing) from None
        globals()[name] = value = getattr(value, name) if place else value
        return value

    def __dir__() -> list[str]:
        return [*__all__, "__version__"]
