"""PostgreSQL: models, repositories, transactions, and events that are emitted exactly when a transaction commits.

Declaring models is cheap: what connects is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cliffracer.database.model import Index, Model, References, Search, Shard, Unique

if TYPE_CHECKING:  # type checkers see the names that are imported when first used
    from cliffracer.database.database import Database
    from cliffracer.database.pages import Page
    from cliffracer.database.repository import Repository
    from cliffracer.database.schema import create_missing
    from cliffracer.database.transaction import Transaction, current_transaction

__all__ = [
    "Database",
    "Index",
    "Model",
    "Page",
    "References",
    "Repository",
    "Search",
    "Shard",
    "Transaction",
    "Unique",
    "create_missing",
    "current_transaction",
]

_LATER = {
    "Database": "database",
    "Page": "pages",
    "Repository": "repository",
    "Transaction": "transaction",
    "create_missing": "schema",
    "current_transaction": "transaction",
}


def __getattr__(name: str) -> Any:  # PEP 562
    if name not in _LATER:
        raise AttributeError(f"module 'cliffracer.database' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"cliffracer.database.{_LATER[name]}"), name)
    return value
