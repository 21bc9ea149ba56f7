"""One value for many is written once."""

import msgspec
import pytest

from cliffracer.wire.codecs import encode
from cliffracer.wire.shared import encoded, share


class Tick(msgspec.Struct, frozen=True):
    number: int


def test_a_shared_value_is_written_once_for_all_who_share_it():
    """Each reader of a feed says that the value may be shared: all get one and the same text, and another value is another text."""
    tick, next_one = Tick(1), Tick(2)
    share(tick)
    text = encoded(tick)
    share(tick)
    assert encoded(tick) is text
    share(next_one)
    assert (encoded(next_one), encoded(tick)) == (b'{"number":2}', text)


def test_a_value_that_may_change_is_written_anew():
    """An equal one is another, and what nobody shares is never remembered."""
    share(Tick(1))
    changing = {"number": 1}
    before = encoded(changing)
    changing["number"] = 2
    assert (before, encoded(changing), encoded(Tick(1))) == (b'{"number":1}', b'{"number":2}', b'{"number":1}')


def test_what_another_thread_shares_meanwhile_keeps_its_own_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops may run in several threads: one that shares a value while another writes its own never sends that one's text."""
    mine, theirs = Tick(1), Tick(2)

    def interrupted(value: object) -> bytes:
        share(theirs)
        return encode(value)

    share(mine)
    monkeypatch.setattr("cliffracer.wire.shared.encode", interrupted)
    assert encoded(mine) == b'{"number":1}'
    monkeypatch.undo()
    assert encoded(theirs) == b'{"number":2}'
