"""How calls begin that nobody is behind."""

import os

import pytest

from cliffracer.messaging.beginnings import Beginnings
from cliffracer.wire.calls import read_call, read_trace, write_call

MANY = 600  # more than are numbered at once


def ids(block: bytes) -> tuple[str, str]:
    """Return the correlation id and the trace of a block."""
    identity, trace = read_trace(block)
    assert identity is not None
    assert trace is not None
    return identity, trace


@pytest.mark.parametrize("seconds", [10, 2.5, 0.0004, 86_400.0])
def test_a_block_is_that_of_any_call(seconds: float) -> None:
    """Only its ids are other ones, and nothing of what stands ready is left in it."""
    block = Beginnings().block(seconds)
    assert block == write_call(*ids(block), seconds)
    assert read_call(block)[0] == (int(seconds * 1000) or 1) / 1000


def test_no_call_has_the_ids_of_another() -> None:
    """Neither of one connection nor of two, and a call's own go together: its trace has the number of its id."""
    one, other = Beginnings(), Beginnings()
    seen = [ids(made.block(5.0)) if number % 2 else made.ids() for number in range(MANY) for made in (one, other)]
    assert len({identity for identity, _ in seen}) == len({trace.split("-")[2] for _, trace in seen}) == len(seen)
    assert all(trace == f"00-{identity}-{identity[16:]}-01" for identity, trace in seen)


def test_a_time_seen_once_is_not_remembered_for_ever() -> None:
    """Who calls with what is left of some time has another each time; what others call with stands ready all the same."""
    made = Beginnings()
    for number in range(3000):
        assert read_call(made.block(number + 0.5))[0] == number + 0.5
        assert len(made._blocks) <= 1000
    made.block(10)
    assert 10 in made._blocks


def test_a_forked_worker_has_ids_of_its_own() -> None:
    """They are not those that its parent goes on with."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, Beginnings().block(5.0))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        theirs = ids(answer.read())
    ours = ids(Beginnings().block(5.0))
    assert theirs[0][:16] != ours[0][:16]
    assert theirs[0][16:] != ours[0][16:]
