"""The breaker and the budget alone, told the time."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliffracer import Breaker, Conflict, DeadlineExceeded, Internal, NotFound, Overloaded, Retry, SetupError, Unavailable
from cliffracer.resilience.circuit import Budget, Circuit
from cliffracer.resilience.verdicts import failure, repeats


def failed(circuit: Circuit, times: int, now: float) -> None:
    for _ in range(times):
        circuit.record(circuit.admit(now), now, good=False)


def test_it_opens_tries_once_and_closes() -> None:
    """After five failures in the window calls are refused, then one tries, and its success lets all through."""
    circuit = Circuit(Breaker(failures=5, window=10, reset=5), "users")
    failed(circuit, 4, 0.0)
    assert circuit.admit(1.0) == 0
    failed(circuit, 1, 1.0)
    assert (circuit.state, circuit.level, circuit.opened) == ("open", 2, 1)
    with pytest.raises(Unavailable, match=r"the breaker to users is open, next try in 3\.2 s") as refused:
        circuit.admit(2.8)
    assert refused.value.details == {"reason": "breaker", "retry_after": 3.2}
    probe = circuit.admit(6.0)
    with pytest.raises(Unavailable, match="half open: one call tries"):
        circuit.admit(6.0)
    circuit.record(probe, 6.1, good=True)
    assert circuit.state == "closed"
    assert circuit.admit(6.2) == 0


def test_a_probe_that_fails_or_leaves_opens_it_again() -> None:
    """A failure for ``reset`` seconds, a caller who left until the next call, one that never ends until then as well."""
    circuit = Circuit(Breaker(failures=1, reset=5), "users")
    failed(circuit, 1, 0.0)
    circuit.record(circuit.admit(5.0), 5.0, good=False)
    assert circuit.words(6.0) == "the breaker to users is open, next try in 4.0 s"
    circuit.record(circuit.admit(10.0), 10.0, good=None)
    never = circuit.admit(10.0)
    late = circuit.admit(15.0)
    circuit.record(never, 15.0, good=True)
    assert circuit.state == "half_open"
    circuit.record(late, 15.0, good=True)
    assert circuit.state == "closed"


def test_a_busy_target_may_fail_now_and_then() -> None:
    """Five failures are too many only if they are half of all, and old ones are forgotten."""
    circuit = Circuit(Breaker(failures=5, window=10), "users")
    for _ in range(20):
        circuit.record(circuit.admit(0.0), 0.0, good=True)
    failed(circuit, 19, 0.0)
    assert circuit.state == "closed"
    failed(circuit, 4, 11.0)
    assert circuit.state == "closed"
    failed(circuit, 1, 12.0)
    assert circuit.state == "open"


@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from(["good", "failed", "left", "never"])), max_size=60))
def test_it_never_lets_two_probes_through_nor_stays_shut(steps: list[tuple[float, str]]) -> None:
    """Whatever comes: while it is not closed one probe at most is let through per reset time, and waiting for that always helps."""
    circuit, now, probes = Circuit(Breaker(failures=3, window=4, reset=2), "users"), 0.0, []
    for wait, how in steps:
        now += wait
        try:
            ticket = circuit.admit(now)
        except Unavailable:
            continue
        if ticket:
            assert not probes or now >= probes[-1]
            probes.append(now + 2 if how == "never" else now)
        if how != "never":
            circuit.record(ticket, now, good={"good": True, "failed": False, "left": None}[how])
    assert circuit.admit(now + 2) >= 0


def test_threads_share_it() -> None:
    """Of many threads at once one is the probe."""
    circuit, admitted = Circuit(Breaker(failures=1, reset=1), "users"), []
    failed(circuit, 1, 0.0)

    def knock() -> None:
        try:
            admitted.append(circuit.admit(1.0))
        except Unavailable:
            return

    threads = [threading.Thread(target=knock) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(admitted) == 1


def test_the_budget_is_a_tenth_and_one_per_second() -> None:
    """Ten are there to begin with; then a tenth of the calls, or one per second."""
    budget = Budget(0.1)
    assert sum(budget.take(0.0) for _ in range(50)) == 10
    for _ in range(101):
        budget.called()
    assert sum(budget.take(0.0) for _ in range(50)) == 10
    assert sum(budget.take(3.0) for _ in range(50)) == 3
    assert not Budget(0.0).take(100.0)


@pytest.mark.parametrize(
    ("error", "repeated", "counted"),
    [
        (Unavailable("down"), True, True),
        (Unavailable("down", outcome="unknown"), False, True),
        (Unavailable("down", tried_again=2), None, True),
        (Overloaded("busy"), True, True),
        (Overloaded("called too often", reason="rate"), True, False),
        (Overloaded("odd", reason=["rate"], outcome={}), True, True),
        (DeadlineExceeded(), False, True),
        (Internal(), None, False),
        (NotFound(), None, False),
        (Conflict(), None, False),
        (ConnectionRefusedError(), True, True),
        (ConnectionResetError(), False, True),
        (TimeoutError(), False, True),
        (ValueError(), None, True),
        (SetupError(), None, False),
        (KeyError(), True, True),
    ],
)
def test_what_an_error_says(error: Exception, repeated: bool | None, *, counted: bool) -> None:
    """Whether it may be repeated for any call, for one that may be done twice, or for none; and whether a breaker counts it."""
    assert repeats(error, (KeyError,)) is repeated
    assert failure(error, (KeyError,)) is counted


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (Retry, {"attempts": 0}, "tries nothing"),
        (Retry, {"attempts": 2.5}, r"Retry\(attempts=2\.5\) is no whole number"),
        (Retry, {"attempts": "3"}, "no whole number"),
        (Retry, {"budget": "10%"}, r"budget='10%'\) is no share of calls"),
        (Retry, {"idempotent": "no"}, "neither yes nor no"),
        (Breaker, {"failures": True}, "no whole number"),
        (Retry, {"base": "soon"}, r"Retry\(base=\.\.\.\): 'soon' is no length of time"),
        (Retry, {"cap": -1}, "must be finite and not negative"),
        (Retry, {"budget": 10}, "no share of calls"),
        (Retry, {"timeout": 0}, "leaves no attempt any time"),
        (Retry, {"on": ("OSError",)}, "Give classes"),
        (Breaker, {"failures": 0}, "would always be open"),
        (Breaker, {"window": "0s"}, "need some time"),
        (Breaker, {"share": 2}, "no share of calls"),
    ],
)
def test_options_that_make_no_sense(kind: type, options: dict[str, object], text: str) -> None:
    """They are refused where they are written, with what to write instead."""
    with pytest.raises(SetupError, match=text):
        kind(**options)


def test_options_are_read_as_elsewhere() -> None:
    """Lengths of time may be words, and equal policies are equal."""
    assert Retry(base="50ms", cap="2s") == Retry(base=0.05, cap=2.0)
    assert len({Breaker(window="10s"), Breaker(window=10)}) == 1
    assert Retry(on=OSError).on == (OSError,)  # type: ignore[arg-type]  # one class is as good as a tuple of it
