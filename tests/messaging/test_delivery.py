"""What an ack subject says, and what a delivery shows of itself."""

import pytest

from cliffracer.messaging.delivery import Delivery, words_of

WORDS = [b"$JS", b"ACK", b"EVENTS", b"users-welcome", b"2", b"7", b"9", b"1700000000000000000", b"3"]


def delivery() -> Delivery:
    """Return one with a token in its headers."""
    block = b"NATS/1.0\r\nAuthorization: Bearer s3cret\r\n\r\n"
    return Delivery(b"events.a", b".".join(WORDS), b"hunter2", b"hunter2", block, 2, b"1 7", WORDS[4:], lambda *_: None)


@pytest.mark.parametrize(
    "reply",
    [
        b".".join(WORDS),
        b".".join([*WORDS[:2], b"hub", b"account", *WORDS[2:]]),
        b".".join([*WORDS[:2], b"hub", b"account", *WORDS[2:], b"token"]),
    ],
    ids=["nine", "with domain and account", "and a token"],
)
def test_the_words_are_the_same_however_many_a_server_writes(reply: bytes) -> None:
    """Those of a server in a domain have two more, and later ones a token at the end (ADR-15)."""
    assert words_of(reply) == WORDS


@pytest.mark.parametrize("reply", [b"", b"$JS.ACK.EVENTS", b".".join([*WORDS, b"more"])])
def test_another_subject_is_refused(reply: bytes) -> None:
    """It is no ack subject."""
    with pytest.raises(ValueError, match="not the ack subject"):
        words_of(reply)


def test_it_shows_neither_headers_nor_payload() -> None:
    """Wherever it is printed: in a log, in a traceback with variables, by Rich."""
    shown = f"{delivery()!r} {delivery().__rich_repr__()}"
    assert "events.a" in shown
    assert "s3cret" not in shown
    assert "hunter2" not in shown


def test_its_headers_are_read_when_asked_for_and_its_subject_can_be_put_right() -> None:
    """What was replayed to one function gets the subject that it had; what is emptied keeps what it takes to answer."""
    one = delivery()
    assert one.headers["authorization"] == "Bearer s3cret"
    one.subject = "events.b"
    assert (one.subject, one.stored_on, one.attempt) == ("events.b", b"events.a", 2)
    assert (one.stream, one.consumer, one.stream_seq, one.consumer_seq, one.pending) == ("EVENTS", "users-welcome", 7, 9, 3)
    one.empty()
    assert (one.payload, one.sent, dict(one.headers)) == (b"", b"", {})
