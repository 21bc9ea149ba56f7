"""The router: finds the endpoint of a request; exact paths by a dict, paths with parameters by one regular expression per method.

The most specific path wins, whatever the order of declaration: segment by segment, a literal comes before a typed
parameter (``{id:int}``), that before ``{name}``, and ``{rest:path}`` comes last. Kinds are Starlette's: str, int,
float, uuid, path.
"""

import re
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, NamedTuple

from starlette.convertors import CONVERTOR_TYPES

from cliffracer.declarations import Route, Socket, refuse
from cliffracer.shapes import PATH_PARAMETER, path_names

_RANKS = {"int": 2, "uuid": 2, "float": 3, "str": 4, "path": 5}

SOCKET = "WEBSOCKET"
"""In place of a method: sockets have paths of their own."""
APART = "They share a port: rename one, or run the apps apart."
"""What to do about two apps that want the same path."""


class Entry(NamedTuple):
    """One path with parameters in the expression of a method."""

    endpoint: Any
    names: tuple[str, ...]
    groups: tuple[int, ...]
    """The groups of its parameters."""

    def texts(self, match: re.Match[str]) -> dict[str, str]:
        """Return the texts of the parameters in a match."""
        if len(self.names) == 1:
            return {self.names[0]: match[self.groups[0]]}
        return dict(zip(self.names, match.group(*self.groups), strict=True))


class Router:
    """Routes of one server; ``exact`` and ``match`` are what the hot path reads."""

    def __init__(self) -> None:
        self.exact: dict[str, dict[str, Any]] = {}
        self.match: dict[str, Callable[[str], re.Match[str] | None]] = {}
        self.entries: dict[str, dict[int, Entry]] = {}
        self._patterns: dict[str, list[tuple[str, Any]]] = {}

    def add(self, method: str, path: str, endpoint: Any) -> None:
        """Add a route; call `compile` after the last."""
        if PATH_PARAMETER.search(path):
            self._patterns.setdefault(method, []).append((path, endpoint))
        else:
            self.exact.setdefault(path, {})[method] = endpoint

    def has(self, method: str, path: str) -> bool:
        """Say whether exactly this path was added for a method."""
        return method in self.exact.get(path, {}) or any(known == path for known, _ in self._patterns.get(method, ()))

    def compile(self) -> None:
        """Make the expressions of the paths with parameters."""
        for method, routes in self._patterns.items():
            routes.sort(key=lambda route: specificity(route[0]))
            writer = _Writer()
            self.match[method] = re.compile(writer.write(routes) + "\\Z").match
            self.entries[method] = writer.entries

    def find(self, method: str, path: str) -> tuple[Any, dict[str, str] | None]:
        """Return the endpoint of a path and its parameters' texts; (None, None) if there is none."""
        endpoint = self.exact.get(path, {}).get(method)
        if endpoint is not None:
            return endpoint, None
        match = self.match[method](path) if method in self.match else None
        if match is None:
            return None, None
        entry = self.entries[method][match.lastindex or 0]
        return entry.endpoint, entry.texts(match)

    def allowed(self, path: str) -> list[str]:
        """Return the methods that a path has, in order."""
        methods = set(self.exact.get(path, ())) | {method for method, match in self.match.items() if match(path)}
        methods.discard(SOCKET)
        return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def specificity(path: str) -> tuple[tuple[int, ...], ...]:
    """Return the sort key of a path: the most specific comes first."""
    return tuple(_rank(segment) for segment in path.split("/"))


def _rank(segment: str) -> tuple[int, ...]:
    found = list(PATH_PARAMETER.finditer(segment))
    if not found:
        return (0,)
    worst = max(_RANKS[one.group(2) or "str"] for one in found)
    whole = len(found) == 1 and found[0].group(0) == segment
    return (worst, 1 if whole else 0)  # file-{name} before {name}


class _Writer:
    """Writes one expression for many paths; the empty group at the end of a path tells which one has matched.

    Common prefixes of consecutive paths are written once. Opening a group costs a step for each group before it, so no group may be
    opened for every path that is tried: with 500 paths that took longer than the rest of a request.
    """

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        """The entries by the group that their path ends with."""
        self._groups = 0

    def write(self, routes: Iterable[tuple[str, Any]], depth: int = 1, outer: tuple[int, ...] = ()) -> str:
        """Return the expression of what comes after the first ``depth`` segments, whose parameters are in the groups ``outer``."""
        parts: list[str] = []
        for begin, those in groupby(routes, key=lambda route: _begin(route[0], depth)):
            if begin:
                expression, parameters, until = begin
                own = tuple(self._group() for _ in range(parameters))
                parts.append(expression + self.write(those, until, outer + own))
            else:
                parts.append("()")
                path, endpoint = next(those)
                self.entries[self._group()] = Entry(endpoint, tuple(path_names(path)), outer)
        return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"

    def _group(self) -> int:
        self._groups += 1
        return self._groups


def _begin(path: str, depth: int) -> tuple[str, int, int] | None:
    """Return the expression of the next segment, its number of parameters, and where to go on; None at the end of the path.

    From a parameter of kind ``path`` on, which takes as many segments as it can, all is one segment: how many depends on what follows.
    """
    segments = path.split("/")
    if depth == len(segments):
        return None
    until = len(segments) if ":path}" in segments[depth] else depth + 1
    return (*expression_of("/" + "/".join(segments[depth:until])), until)


def expression_of(text: str) -> tuple[str, int]:
    """Return the expression of a path or a part of it, with a group for each parameter, and the number of groups."""
    expression, number, at = "", 0, 0
    for found in PATH_PARAMETER.finditer(text):
        kind = re.sub(r"\((?!\?)", "(?:", CONVERTOR_TYPES[found.group(2) or "str"].regex)
        expression += re.escape(text[at : found.start()]) + f"({kind})"
        number += 1
        at = found.end()
    return expression + re.escape(text[at:]), number


def convertors_of(path: str) -> dict[str, Callable[[str], Any]]:
    """Return the convertors from texts to Starlette's ``request.path_params``."""
    return {found.group(1): CONVERTOR_TYPES[found.group(2) or "str"].convert for found in PATH_PARAMETER.finditer(path)}


def check_kinds(record: Route | Socket) -> None:
    """Refuse a path whose parameters no router could tell apart."""
    unknown = [kind for _, kind in PATH_PARAMETER.findall(record.path) if kind and kind not in _RANKS]
    if unknown:
        problem = f"path {record.path!r} has a parameter of kind {unknown[0]}"
        raise refuse(record.function, problem, "Kinds are str, int, float, uuid and path.")
    if record.path.count(":path}") > 1:
        raise refuse(record.function, f"path {record.path!r} has two parameters of kind path", "One is the most that can be told apart.")
