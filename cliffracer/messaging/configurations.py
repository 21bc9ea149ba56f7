"""Configurations of streams and consumers, and how they are merged with what is already there: widened, never narrowed.

An operator may give a stream more than we ask for (replicas, subjects, limits); that is left alone. What cannot be
reconciled, or what a server did not accept (old ones ignore newer options silently), is a `SetupError` that shows it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from cliffracer.durations import worded
from cliffracer.errors import SetupError
from cliffracer.wire.subjects import matches

NANOSECONDS = 1_000_000_000
SERVICE, FUNCTION = "cliffracer.service", "cliffracer.function"  # metadata of a consumer: its owner
Configuration = dict[str, Any]


class StreamConfig(msgspec.Struct, kw_only=True, frozen=True):
    """A stream as asked for (ADR-8 names of fields); None is not asked for.

    ``discard`` is ``new``: a stream that is full refuses, and the emitter is told; ``old`` would drop what it has acknowledged.
    """

    name: str
    subjects: list[str]
    description: str | None = None
    retention: str = "limits"
    storage: str = "file"
    discard: str = "new"
    num_replicas: int = 1
    duplicate_window: int = 120 * NANOSECONDS
    max_msgs_per_subject: int | None = None
    max_age: int | None = None
    max_bytes: int | None = None
    allow_direct: bool | None = True
    allow_rollup_hdrs: bool | None = None
    allow_msg_ttl: bool | None = None
    allow_msg_schedules: bool | None = None
    deny_delete: bool | None = None
    sources: list[Configuration] | None = None
    republish: Configuration | None = None


class ConsumerConfig(msgspec.Struct, kw_only=True, frozen=True):
    """A pull consumer as asked for; the start only counts when it is made.

    ``max_deliver`` is endless: the server would stop delivering in silence, we park instead.
    """

    name: str
    filter_subjects: list[str]
    durable_name: str | None = None
    description: str | None = None
    deliver_policy: str = "all"
    opt_start_seq: int | None = None
    opt_start_time: str | None = None
    ack_policy: str = "explicit"
    ack_wait: int = 30 * NANOSECONDS
    max_deliver: int = -1
    max_ack_pending: int = 65_536
    inactive_threshold: int | None = None
    headers_only: bool | None = None
    mem_storage: bool | None = None
    num_replicas: int | None = None
    metadata: dict[str, str] | None = None


def asked_for(config: StreamConfig | ConsumerConfig) -> Configuration:
    """Return the JSON object to send: what is not asked for is not in it."""
    fields: Configuration = msgspec.to_builtins(config)
    return {name: value for name, value in fields.items() if value is not None}


class _DifferentError(Exception):
    """The two values of a field cannot be reconciled."""


def _same(found: Any, asked: Any) -> Any:
    if found != asked:
        raise _DifferentError
    return found


def covers(pattern: str, other: str) -> bool:
    """Say whether ``pattern`` covers everything that ``other`` does."""
    return matches(pattern, other) and (pattern.endswith(">") or not other.endswith(">"))


def include(patterns: Iterable[str], asked: Iterable[str]) -> bool:
    """Say whether every pattern in ``asked`` is covered by one of ``patterns``."""
    return all(any(covers(one, new) for one in patterns) for new in asked)


def overlap(pattern: str, other: str) -> bool:
    """Say whether some subject fits both patterns."""
    one, two = pattern.split("."), other.split(".")
    for first, second in zip(one, two, strict=False):
        if ">" in (first, second):
            return True
        if "*" not in (first, second) and first != second:
            return False
    return len(one) == len(two)


def distinct(patterns: Iterable[str]) -> list[str]:
    """Return patterns that cover the given ones, and of which no two overlap: the filters of one consumer must not.

    A pattern that another one covers is left out. Two that overlap otherwise, as ``user.*`` and ``*.created``, become the narrowest that
    covers both, ``*.*``: the consumer ignores what it delivers beyond what was asked for.
    """
    kept: list[str] = []
    for pattern in patterns:
        wide = pattern
        while touching := [other for other in kept if overlap(other, wide)]:
            kept = [other for other in kept if other not in touching]
            for other in touching:
                wide = _both(other, wide)
        kept.append(wide)
    return kept


def _both(pattern: str, other: str) -> str:
    """Return the narrowest pattern that covers two that overlap."""
    if covers(pattern, other) or covers(other, pattern):
        return pattern if covers(pattern, other) else other
    found: list[str] = []
    for one, two in zip(pattern.split("."), other.split("."), strict=False):
        if ">" in (one, two):
            return ".".join([*found, ">"])
        found.append(one if one == two else "*")
    return ".".join(found)


def _all(found: Any, asked: Any) -> Any:
    there = found or []  # subjects of one stream may not overlap
    kept = [subject for subject in there if subject in asked or not any(covers(new, subject) for new in asked)]
    return [*kept, *(new for new in asked if not any(covers(subject, new) for subject in there))]


def _sources(found: Any, asked: Any) -> Any:
    present = {source.get("name") for source in found or []}
    return [*(found or []), *(source for source in asked if source.get("name") not in present)]


def _largest(found: Any, asked: Any) -> Any:
    return max(found or 0, asked)


def _longest(found: Any, asked: Any) -> Any:
    return max(found, asked) if _limited(found) else found


def _limited(limit: Any) -> bool:
    return limit is not None and limit > 0


def _either(found: Any, asked: Any) -> Any:
    return bool(found) or asked


def _theirs(found: Any, asked: Any) -> Any:
    return found or asked


def _joined(found: Any, asked: Any) -> Any:
    there = found or []
    return there if include(there, asked) else distinct([*there, *asked])


def _ours(_found: Any, asked: Any) -> Any:
    return asked


Rule = Callable[[Any, Any], Any]

STREAM_RULES: dict[str, Rule] = {
    "subjects": _all,
    "sources": _sources,
    "republish": _theirs,
    "retention": _same,
    "storage": _same,
    "num_replicas": _largest,
    "duplicate_window": _largest,
    "max_age": _longest,
    "max_bytes": _longest,
    "max_msgs_per_subject": _longest,
    "allow_direct": _either,
    "allow_rollup_hdrs": _either,
    "allow_msg_ttl": _either,
    "allow_msg_schedules": _either,
}
LIMITS = {"max_age": "ttl", "max_bytes": "max_bytes", "max_msgs_per_subject": "history"}
"""Limits of what a bucket keeps, with what `Bucket` calls them."""
CONSUMER_RULES: dict[str, Rule] = {
    "filter_subjects": _joined,  # another version of the service may be running that needs what is there
    "ack_policy": _same,
    "ack_wait": _ours,
    "max_deliver": _ours,
    "max_ack_pending": _ours,
}


def widened(kind: str, found: Configuration, asked: Configuration, rules: dict[str, Rule]) -> Configuration:
    """Return the configuration that was found, widened to what is asked for as well; `SetupError` if they contradict each other."""
    wanted, differences = dict(found), []
    for field, rule in rules.items():
        if field not in asked:
            continue
        try:
            value = rule(found.get(field), asked[field])
        except _DifferentError:
            differences.append(_shown(field, found.get(field), asked[field]))
        else:
            if value != found.get(field):
                wanted[field] = value
    if differences:
        raise SetupError(
            f"{kind} {asked['name']} exists with another configuration: {'; '.join(differences)}. "
            f"Change it with the nats command line, delete it, or set another namespace."
        )
    return wanted


def narrower(found: Configuration, asked: StreamConfig) -> list[str]:
    """Return the limits that differ from the declaration of a bucket: a start never narrows what is there."""
    told = []
    for field, word in LIMITS.items():
        here, wanted = found.get(field), getattr(asked, field)
        if _limited(here) or _limited(wanted):
            shown = [_amount(field, limit) for limit in (here, wanted)]
            told += [f"{word} is {shown[0]}, declared {shown[1]}"] if shown[0] != shown[1] else []
    return told


def _amount(field: str, limit: Any) -> str:
    if not _limited(limit):
        return "without limit"
    return worded(limit / NANOSECONDS) if field == "max_age" else str(limit)


def check_echo(kind: str, echoed: Configuration, asked: Configuration, version: tuple[int, ...]) -> None:
    """Raise a `SetupError` that shows what the server did not accept."""
    lost = {name: value for name, value in asked.items() if not _taken(name, echoed.get(name), value)}
    if lost:
        shown = "; ".join(_shown(name, echoed.get(name), value) for name, value in lost.items())
        raise SetupError(
            f"nats-server {'.'.join(map(str, version))} did not take over the configuration of {kind} {asked['name']}: {shown}. "
            f"Servers before 2.10 drop newer options without a word: use a newer one."
        )


def _taken(field: str, echoed: Any, asked: Any) -> bool:
    if field == "filter_subjects":
        return set(asked) == set(echoed or [])
    if field == "subjects":
        return set(asked) <= set(echoed or [])  # another service may have added its own meanwhile
    if field == "sources":
        return {source["name"] for source in asked} <= {source.get("name") for source in echoed or []}
    if field == "metadata":
        return all((echoed or {}).get(name) == value for name, value in asked.items())
    if field == "opt_start_time":
        return bool(echoed)  # written back with other digits
    return bool((echoed or 0) == (asked or 0))


def _shown(field: str, found: Any, asked: Any) -> str:
    return f"{field} is {_text(found)}, asked {_text(asked)}"


def _text(value: Any) -> str:
    return "not set" if value is None else msgspec.json.encode(value).decode()
