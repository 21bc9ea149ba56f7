"""What a prompt, a debugger and another process see of the public names."""

import copy
import pickle
import pydoc
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

import cliffracer
from cliffracer import (
    App,
    CliffracerError,
    Conflict,
    Context,
    Group,
    Identity,
    InvalidInput,
    Overloaded,
    Rejected,
    Search,
    Shard,
    provided,
)
from cliffracer.messaging.broker import Parked
from cliffracer.security.accounts import Credentials
from cliffracer.security.credentials import Credential
from cliffracer.security.sessions import ResetAsked, Signed
from cliffracer.security.tickets import Ticket


@pytest.mark.parametrize("name", ["", *cliffracer.__all__])
def test_help_has_something_to_say(name: str) -> None:
    """`help(cliffracer)` and `help` of every public name print, whatever their defaults are like."""
    assert pydoc.render_doc(getattr(cliffracer, name) if name else cliffracer)


class OutOfStock(Conflict):
    """An error of somebody's own, whose arguments are not those of its base."""

    def __init__(self, sku: str, left: int) -> None:
        super().__init__(f"only {left} of {sku}", sku=sku)
        self.left = left


ERRORS = [
    *(
        kind("why")
        for kind in (getattr(cliffracer, name) for name in cliffracer.__all__)
        if isinstance(kind, type) and issubclass(kind, CliffracerError)
    ),
    InvalidInput("bad", errors=[{"path": "a", "message": "no number"}], hint="b"),
    Overloaded("busy", retry_after=7),
    OutOfStock("pen", 3),
    Rejected({2: "no such user"}),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_comes_whole_out_of_another_process(error: Exception, again: Callable[[Exception], Exception]) -> None:
    """Its class, text, fields and notes, also those of a subclass with arguments of its own."""
    error.add_note("seen in a worker")
    made = again(error)
    assert (type(made), str(made), made.args, vars(made)) == (type(error), str(error), error.args, vars(error))


HIDDEN = "hunter2-hunter2"
PRIVATE = [
    Context("shop", "buy", "rpc", token=HIDDEN),
    Credential("bearer", HIDDEN),
    Credentials(HIDDEN, username="ada"),
    Identity("ada", claims={"phone": HIDDEN}),
    Parked(
        id=1, subject="a", service="s", function="f", consumer="c", error="E", traceback="", attempts=1, stream="EVENTS", sequence=1,
        parked=datetime.now(UTC), headers={"Authorization": HIDDEN}, payload=HIDDEN.encode(),
    ),
    ResetAsked("ada", HIDDEN),
    Signed(HIDDEN, HIDDEN, 60.0),
    Ticket(HIDDEN),
]  # fmt: skip


@pytest.mark.parametrize("value", PRIVATE, ids=lambda value: type(value).__name__)
def test_what_is_private_is_not_printed(value: Any) -> None:
    """Neither by `repr`, as in logs and debuggers, nor by what Rich asks for, which of a struct shows every field."""
    assert HIDDEN not in f"{value!r} {value} {value.__rich_repr__()}"


SHOWN = {
    App("shop"): "<App shop>",
    Group("admin"): "<Group admin>",
    App("shop").service("bank"): "<Service bank>",
    Search(weight="A"): "Search(weight='A', language='english')",
    Shard("customer"): "Shard('customer')",
    provided: "provided",
}


@pytest.mark.parametrize("value", SHOWN, ids=SHOWN.values())
def test_a_prompt_tells_one_from_another(value: Any) -> None:
    """By its name, not by its place in memory."""
    assert repr(value) == SHOWN[value]


def test_provided_stays_the_one_that_there_is() -> None:
    """Through copies and pickle too: a default is known by what it is, also in a signature that was copied."""
    assert copy.copy(provided) is copy.deepcopy(provided) is pickle.loads(pickle.dumps(provided)) is provided
