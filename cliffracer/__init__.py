"""Cliffracer: one file, one service. RPC, durable events, HTTP and WebSockets, declared on a module-level `App`.

Importing it is light: what needs NATS, PostgreSQL, Starlette or uvicorn is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cliffracer.app import App
from cliffracer.context import Context
from cliffracer.database.model import Index, Model, References, Search, Shard, Unique
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
from cliffracer.resilience.policies import Breaker, Retry
from cliffracer.resilience.resilient import resilient
from cliffracer.scope import Group
from cliffracer.security.access import Access
from cliffracer.security.guards import public, requires
from cliffracer.security.identity import Identity

if TYPE_CHECKING:  # type checkers see the names that are imported when first used
    from starlette.datastructures import UploadFile
    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from cliffracer.client import AsyncClient, Client, connect, connect_async
    from cliffracer.database.database import Database
    from cliffracer.database.pages import Page
    from cliffracer.database.repository import Repository
    from cliffracer.database.transaction import Transaction
    from cliffracer.messaging.keyvalue import KeyValue
    from cliffracer.messaging.objects import ObjectStore
    from cliffracer.messaging.stores import Bucket
    from cliffracer.security.accounts import Accounts
    from cliffracer.security.apikeys import ApiKeys
    from cliffracer.security.claims import Claims
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

_LATER = {
    "Accounts": "cliffracer.security.accounts",
    "ApiKeys": "cliffracer.security.apikeys",
    "AsyncClient": "cliffracer.client",
    "Client": "cliffracer.client",
    "BrowserLogin": "cliffracer.security.login",
    "Bucket": "cliffracer.messaging.stores",
    "Claims": "cliffracer.security.claims",
    "Database": "cliffracer.database.database",
    "KeyValue": "cliffracer.messaging.keyvalue",
    "ObjectStore": "cliffracer.messaging.objects",
    "Page": "cliffracer.database.pages",
    "Repository": "cliffracer.database.repository",
    "Request": "starlette.requests",
    "Secret": "cliffracer.settings",
    "Settings": "cliffracer.settings",
    "Tickets": "cliffracer.security.tickets",
    "Transaction": "cliffracer.database.transaction",
    "UploadFile": "starlette.datastructures",
    "WebSocket": "starlette.websockets",
    "connect": "cliffracer.client",
    "connect_async": "cliffracer.client",
}


def __getattr__(name: str) -> Any:  # PEP 562
    if name not in _LATER:
        raise AttributeError(f"module 'cliffracer' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_LATER[name]), name)
    return value
