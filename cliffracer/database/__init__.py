"""PostgreSQL: models, repositories, transactions, and events that are emitted exactly when a transaction commits."""

from cliffracer.database.database import Database
from cliffracer.database.model import Index, Model, References, Search, Shard, Unique
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
