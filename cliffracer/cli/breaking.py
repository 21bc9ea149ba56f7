"""What becomes of whoever uses an app when its next version runs: its methods, what it serves over HTTP, its events."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from cliffracer.cli.arguments import schema_of
from cliffracer.contract import Contract, Heard
from cliffracer.exposed import TEXTS, Exposed
from cliffracer.wire.compatible import Misfit, misfits, shut
from cliffracer.wire.subjects import matches

State = Literal["breaks", "look", "ok"]
Called = Mapping[tuple[str, str, str], int]
"""How often each handler was called, by service, kind and name."""
_NARROWER = {"format", "pattern", "enum", "const", "minLength", "maxLength", "contentEncoding"}


class Finding(NamedTuple):
    """One method, route, socket or event, and what becomes of whoever uses it."""

    state: State
    what: str
    problems: list[str]
    affected: list[str]
    """Live services that call or subscribe; ``somebody`` where it was called by nobody that is known."""


def findings(new: Contract, live: Sequence[Contract], called: Called) -> Iterator[Finding]:
    """Compare one app with its replicas that run, and what it emits and hears with those who are there."""
    replicas = [one for one in live if one.name == new.name]
    yield from _methods(new, replicas, live, called)
    yield from _exposed(new, replicas, called)
    yield from _events(new, live)


def _methods(new: Contract, replicas: Sequence[Contract], live: Sequence[Contract], called: Called) -> Iterator[Finding]:
    old: dict[str, dict[str, str]] = {}
    for one in replicas:
        old |= one.endpoints or {}
    for method, told in sorted(old.items()):
        problems, notes = _method(told, (new.endpoints or {}).get(method))
        target = f"{new.name}.{method}"
        callers = sorted({one.name for one in live if target in one.calls and one.name != new.name})
        callers = callers or _somebody(called.get((new.name, "rpc", method), 0), "call")
        perhaps = sorted({f"{one.name}, which may call it" for one in live if f"{new.name}.*" in one.calls}) if not callers else []
        yield Finding(_state(problems, notes, callers), target, [*problems, *notes], callers or perhaps)


def _method(old: Mapping[str, str], new: Mapping[str, str] | None) -> tuple[list[str], list[str]]:
    """Return what breaks a caller, and what may: who calls by position, or without the right, is not known."""
    if new is None:
        return ["is gone"], []
    notes = list(_rights(old.get("policy"), new.get("policy")))
    before, after = old.get("parameters"), new.get("parameters", "")
    if before and not f"{after},".startswith(f"{before},"):
        notes.append(f"arguments by position: {before.replace(',', ', ')} are now {after.replace(',', ', ') or 'none'}")
    if ("streams" in old) != ("streams" in new) and before is not None:
        return [
            f"reply: {'one value' if 'streams' in old else 'a stream'} where {'a stream' if 'streams' in old else 'one value'} was"
        ], notes
    if old.get("schema_hash") == new.get("schema_hash") or "request_schema" not in old:
        return [], notes
    request = _misfits(old["request_schema"], new["request_schema"])
    notes += (_told("argument", one) for one in _shut(old["request_schema"], new["request_schema"]))
    response = _misfits(new["response_schema"], old.get("response_schema"), answer=True)
    problems = [*(_told("argument", one) for one in request), *(_told("reply", one) for one in response)]
    return problems, notes


def _exposed(new: Contract, replicas: Sequence[Contract], called: Called) -> Iterator[Finding]:
    """Compare routes and sockets; who asked over HTTP is not known, only how often."""
    old = {one.key: one for replica in replicas for one in replica.exposed or ()}
    ours = {one.key: one for one in new.exposed or ()}
    for key, before in sorted(old.items()):
        problems, notes = _route(before, ours.get(key))
        asked = called.get((new.name, before.kind, before.function), 0)
        users = _somebody(asked, "connection" if before.kind == "websocket" else "request")
        yield Finding(_state(problems, notes, users), f"{new.name} {before.name}", [*problems, *notes], users)
    if any(replica.exposed is None for replica in replicas) and ours:
        yield Finding("look", f"{new.name} over HTTP", ["a replica does not tell what it serves over HTTP: nothing is compared"], [])


def _route(old: Exposed, new: Exposed | None) -> tuple[list[str], list[str]]:
    if new is None:
        return ["is gone"], []
    takes = _misfits(old.takes, new.takes, texts=True)
    gives = _misfits(new.gives, old.gives, answer=True)
    socket = old.kind == "websocket"
    problems = [*(_told("", one) for one in takes), *(_told("message" if socket else "answer", one) for one in gives)]
    if "message" in _properties(old.takes) and "message" not in _properties(new.takes):
        problems.append("message: is not taken")
    if old.status != new.status:
        problems.append(f"answer: status {new.status} where {old.status} was")
    if old.streams != new.streams:
        problems.append(f"answer: {'a stream' if new.streams else 'one value'} where {'a stream' if old.streams else 'one value'} was")
    notes = [_told("message" if socket else "", one) for one in _shut(old.takes, new.takes)]
    return problems, [*_rights(old.policy, new.policy), *notes]


def _texts(takes: dict[str, Any]) -> dict[str, Any]:
    """Return what a route takes, with places of text that take any text open to all: what comes there is text, whatever it was meant as."""
    properties = takes.get("properties", {})
    return {**takes, "properties": {name: {} if name.startswith(TEXTS) and _is_text(one) else one for name, one in properties.items()}}


def _is_text(schema: Any) -> bool:
    """Say whether a schema takes any text."""
    if not isinstance(schema, dict):
        return False
    return any(map(_is_text, schema.get("anyOf", ()))) or (schema.get("type") == "string" and not schema.keys() & _NARROWER)


def _rights(old: str | None, new: str | None) -> Iterator[str]:
    if old is not None and new is not None and new not in {old, "", "public"}:
        yield f"who may: {new}; was {old or 'not asked'}"


def _somebody(times: int, word: str) -> list[str]:
    return [f"somebody ({times} {word}{'s' if times != 1 else ''})"] if times else []


def _state(problems: Sequence[str], notes: Sequence[str], users: Sequence[str]) -> State:
    if problems and users:
        return "breaks"
    return "look" if problems or notes else "ok"


def _events(new: Contract, live: Sequence[Contract]) -> Iterator[Finding]:
    """Compare events with those who are there, and with the version that is replaced, of which only what breaks is worth a line.

    That one handles what the new one emits as long as it runs, and what it emitted itself may be stored.
    """
    others = {(one.name, one.version): one for one in live}.values()
    for other in others:
        own = other.name == new.name
        for subject, schema, heard in _meeting(new, other):
            problems = [_told("", one) for one in _misfits(schema, heard.schema)]
            if problems or not own:
                who = f"{other.name}.{heard.function}" + (f" of version {other.version}, until it is replaced" if own else "")
                yield Finding("breaks" if problems else "ok", f"event {subject}", problems, [who])
        for subject, schema, heard in _meeting(other, new):
            problems = [_told("", one) for one in _misfits(schema, heard.schema)]
            if problems or not own:
                what = f"{new.name}.{heard.function} on {subject}"
                who = f"what version {other.version} emitted and is not handled yet" if own else f"{other.name}, which emits it"
                yield Finding("breaks" if problems else "ok", what, problems, [who])


def _meeting(emitter: Contract, hearer: Contract) -> Iterator[tuple[str, str, Heard]]:
    """Yield the events that one emits and the other hears, where both say what they are."""
    for subject, schema in sorted(emitter.emits.items()):
        for heard in hearer.hears:
            if schema and heard.schema and matches(heard.subject, subject):
                yield subject, schema, heard


def _misfits(written: str | None, read: str | None, *, answer: bool = False, texts: bool = False) -> list[Misfit]:
    """Return the misfits of schemas that are published as text; none where one is odd, which may be anybody's: nothing can be told."""
    one, other = schema_of(written), schema_of(read)
    if one is None or other is None:
        return []
    return misfits(one, _texts(other) if texts else other, answer=answer)


def _shut(before: str | None, now: str | None) -> list[Misfit]:
    """Return where what was not known was taken, of schemas that are published as text."""
    one, other = schema_of(before), schema_of(now)
    return [] if one is None or other is None else shut(one, other)


def _properties(text: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (schema_of(text) or {}).get("properties", {})
    return found


def _told(where: str, misfit: Misfit) -> str:
    place = " ".join(part for part in (where, misfit.path) if part)
    return f"{place or 'the whole'}: {misfit.text}" if where or misfit.path else misfit.text
