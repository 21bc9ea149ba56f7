"""Names on the wire: valid subjects and names, and how ours are built.

nats-py writes subjects to the socket as they are, so one that holds a space or a line break is a protocol
injection. Everything that reaches the socket passes one of the checks here.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

from cliffracer.errors import Unsendable

MAX_SUBJECT = 1024  # bytes; nats-server closes the connection at a control line of 4,096
_LITERAL = re.compile(r"[^\x00-\x20\x7f.*>]+(?:\.[^\x00-\x20\x7f.*>]+)*")
_PATTERN = re.compile(r"(?:[^\x00-\x20\x7f.*>]+|\*)(?:\.(?:[^\x00-\x20\x7f.*>]+|\*))*(?:\.>)?|>")
_UNSAFE = re.compile(r"[^A-Za-z0-9_:@-]")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@lru_cache(maxsize=4096)  # an app publishes to few subjects, often; errors are not cached
def check_literal(subject: str) -> str:
    """Return a subject to publish to; `Unsendable` if it has a blank, a control character, a wildcard or an empty token."""
    if _LITERAL.fullmatch(subject) and _fits(subject):
        return subject
    raise Unsendable(
        f"{subject[:80]!r} is no subject: dot-separated tokens without blanks, control characters, * or >, {MAX_SUBJECT} bytes at most"
    )


def check_pattern(subject: str) -> str:
    """Return a subject to subscribe to, ``*`` and a final ``>`` allowed; `Unsendable` otherwise."""
    if _PATTERN.fullmatch(subject) and _fits(subject):
        return subject
    raise Unsendable(
        f"{subject[:80]!r} is no subject pattern: dot-separated tokens, * for one token, > for the rest, no blanks or control characters"
    )


TAKEN = frozenset({"events", "send", "cliffracer", "_INBOX"})
"""First tokens with a meaning of their own: methods of a service with such a name could not be reached."""


def check_name(name: str) -> str:
    """Return a service, method, durable or stream name (ADR-6, ADR-32: letters, digits, ``_`` and ``-``); `Unsendable` otherwise."""
    if _NAME.fullmatch(name):
        return name
    raise Unsendable(f"{name[:80]!r} is no name: 1 to 64 letters, digits, _ or -")


def _fits(subject: str) -> bool:
    try:
        return len(subject.encode()) <= MAX_SUBJECT
    except UnicodeEncodeError:  # lone surrogates have no UTF-8
        return False


def as_token(text: str) -> str:
    """Return any text as one token of a subject: other characters become ``=`` and hex digits."""
    return _UNSAFE.sub(lambda found: f"={found[0].encode('utf-8', 'surrogatepass').hex()}=", text)


def matches(pattern: str, subject: str) -> bool:
    """Say whether a literal subject matches a pattern."""
    wanted, given = pattern.split("."), subject.split(".")
    for position, part in enumerate(wanted):
        if part == ">":
            return len(given) > position
        if position >= len(given) or part not in ("*", given[position]):
            return False
    return len(wanted) == len(given)


def within(namespace: str, name: str) -> str:
    """Return the subject, stream, bucket or consumer name in a namespace."""
    return f"{namespace}.{name}" if namespace else name


def named_within(namespace: str, name: str) -> str:
    """Like `within`, for names that allow no dot: streams, buckets, consumers."""
    return f"{namespace}_{name}" if namespace else name


class Subjects:
    """The subjects of one namespace; nothing else builds them."""

    __slots__ = ("events", "namespace", "prefix", "stream")

    def __init__(self, namespace: str = "") -> None:
        self.namespace = check_name(namespace) if namespace else ""
        self.prefix = f"{namespace}." if namespace else ""
        self.events = f"{self.prefix}events."
        self.stream = named_within(namespace, "EVENTS")

    def rpc(self, service: str, method: str) -> str:
        """``user_service.create_user``."""
        return f"{self.prefix}{service}.{method}"

    def send(self, service: str, method: str) -> str:
        """``send.user_service.create_user``: durable one-way calls; the stream of them takes ``send.>``."""
        return f"{self.prefix}send.{service}.{method}"

    def event(self, subject: str) -> str:
        """``events.user.created``."""
        return f"{self.events}{subject}"

    def event_name(self, subject: str) -> str:
        """The user's name for an event's subject, ``user.created``, whether it was emitted at once or delayed."""
        return subject.removeprefix(self.events if subject.startswith(self.events) else self.came(""))

    def came(self, subject: str) -> str:
        """``cliffracer.came.user.created``: where a delayed event is published for core subscribers when it is due."""
        return f"{self.prefix}cliffracer.came.{subject}"

    def discovery(self, verb: str, name: str = "", id: str = "") -> str:
        """``$SRV.PING``, ``$SRV.INFO.user_service``, ``$SRV.STATS.user_service.<id>``."""
        return ".".join(part for part in (f"{self.prefix}$SRV", verb, name, id) if part)

    def cancel(self, service: str) -> str:
        """Where callers of a service report that they gave up."""
        return f"{self.prefix}cliffracer.cancel.{service}"

    def local(self, service: str) -> str:
        """The prefix of subjects on which a service answers its own process while it drains."""
        return f"{self.prefix}cliffracer.local.{service}."


def inbox_prefix(namespace: str, services: Iterable[str]) -> str:
    """Return the inbox prefix of a process that runs these services: their own, so that others can be denied to listen there."""
    name = named_within(namespace, "-".join(services))
    if len(name) > _LONGEST_INBOX:
        name = f"{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return f"_INBOX.{name}"


_LONGEST_INBOX = 64  # a name
INBOXES = (b"_INBOX.", b"_INBOX_", b"_R_.")
"""How almost all begin that `is_inbox` takes."""


def is_inbox(reply: bytes) -> bool:
    """Say whether a reply subject, as received, may be answered: an inbox, and nothing that a caller could aim at.

    ``_INBOX.``, prefixes of others like ``_INBOX_payments.``, and what nats-server itself puts in their place on the way between
    accounts (``_R_.``) and clusters (``_GR_.<cluster>.<server>.<inbox>``, of which only the inbox is delivered to).
    """
    if reply.startswith(INBOXES):
        return 13 not in reply  # nats-server lets a CR through, but it is never part of an inbox
    return reply.startswith(b"_GR_.") and is_inbox(reply.split(b".", 3)[-1])
