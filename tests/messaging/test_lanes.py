"""Lanes: what they let begin, whatever comes in which order and comes again."""

import random
from collections import defaultdict

import pytest

from cliffracer.messaging.lanes import Entry, Lanes


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_each_key_is_done_in_order_and_nothing_is_left(seed: int):
    """Events come, fail and come again, are thinned and called back, at random: one of a key runs at a time, the earliest that is open."""
    chance = random.Random(seed)
    coming = [(bytes([chance.randrange(5)]), number) for number in range(200)]
    lanes: Lanes[int] = Lanes()
    running: list[Entry[int]] = []
    away: list[tuple[bytes, Entry[int]]] = []
    done: defaultdict[bytes, list[int]] = defaultdict(list)
    while coming or lanes.known:
        what = chance.randrange(6)
        if what <= 1 and coming:
            key, number = coming.pop(0)
            lanes.add(key, (0, number), number)
        elif what == 2 and away:
            key, entry = away.pop(chance.randrange(len(away)))
            assert lanes.add(key, entry.place, entry.item) is entry
        elif what == 3 and (entry := lanes.next()) is not None:
            assert entry is entry.lane.entries[0]
            if entry.slim and chance.random() < 0.5:
                lanes.again(entry)
                away.append((entry.lane.key, entry))
            else:
                lanes.fetch(entry)
                running.append(entry)
        elif what == 4 and running:
            entry = running.pop(chance.randrange(len(running)))
            if chance.random() < 0.3:
                lanes.again(entry)
                away.append((entry.lane.key, entry))
            else:
                lanes.done(entry)
                done[entry.lane.key].append(entry.item)
        elif what == 5 and lanes.known:
            lanes.thin(chance.choice(list(lanes.known.values())))
        assert lanes.running == len(running)
        assert lanes.slim == sum(entry.slim for entry in lanes.known.values())
    assert sum(map(len, done.values())) == 200
    assert all(numbers == sorted(numbers) for numbers in done.values())


def test_what_comes_late_takes_its_place_in_front():
    """Also where one behind it is begun already: that one is not begun twice, and the late one is next."""
    lanes: Lanes[str] = Lanes()
    lanes.add(b"k", (0, 5), "five")
    five = lanes.next()
    assert five is not None
    lanes.add(b"k", (0, 3), "three")
    assert lanes.next() is None
    lanes.done(five)
    three = lanes.next()
    assert three is not None
    assert (three.item, lanes.running) == ("three", 1)
    assert lanes.done(three) is None
    assert lanes.known == {}


def test_an_event_is_put_aside_once_and_only_while_it_waits():
    """One that runs keeps its room, and one that is given back is whole when it comes again."""
    lanes: Lanes[str] = Lanes()
    first, second = lanes.add("key", (0, 1), "first"), lanes.add("key", (0, 2), "second")
    assert lanes.next() is first
    assert [lanes.thin(first), lanes.thin(second), lanes.thin(second), lanes.slim] == [False, True, False, 1]
    lanes.again(second)
    assert (second.slim, lanes.slim) == (False, 0)
