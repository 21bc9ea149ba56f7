"""The name that was perhaps meant by one that nothing has."""

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name most like another; None where none is alike, by ``cutoff`` from 0 (nothing) to 1 (the same)."""
    import difflib  # noqa: PLC0415 - only a mistake pays for it

    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=cutoff)), None)
