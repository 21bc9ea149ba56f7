"""API keys, opt-in: with ``app.use(ApiKeys())`` every transport of the app accepts long-lived keys of programs.

``cliffracer keys issue`` makes one. It is shown as ``Authorization: Bearer cr_…`` over HTTP, WebSocket and NATS, or as
``X-API-Key: cr_…`` over HTTP; what the app calls and emits for it goes out with a token that other services verify by themselves.
"""

import importlib
from collections.abc import AsyncIterator
from typing import Any

from cliffracer.errors import SetupError
from cliffracer.markers import provided
from cliffracer.scope import Group
from cliffracer.security.authority import Authority
from cliffracer.security.keyring import Keyring, make_table
from cliffracer.settings import Settings


class ApiKeys:
    """Takes API keys where it takes tokens; they are in PostgreSQL. Handlers can ask for the `Keyring`, to issue and revoke them."""

    def group(self, _app: Any) -> Group:
        """Return the providers that recognise keys, for `App.use`."""
        group = Group("api-keys")
        database: Any = importlib.import_module("cliffracer.database.database").Database  # by name: a peer, needed by who has keys only

        @group.provide
        async def keyring(
            *, db: database = provided, authority: Authority = provided, settings: Settings = provided
        ) -> AsyncIterator[Keyring]:
            if authority is None:
                raise SetupError("ApiKeys() lets callers in, and no handler asks who calls. Put @requires(...) on some, or leave it out.")
            await make_table(db, create=settings.env != "production")
            authority.keyring = Keyring(db, authority)
            yield authority.keyring

        return group
