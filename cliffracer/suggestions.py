"""Suggestions for names of other frameworks: the error for a missing name says what to write here."""

from typing import TYPE_CHECKING, Never


def missing(name: str, *, importing: bool) -> AttributeError | ImportError:
    """Return the error for a name that does not exist, with the cure if other frameworks have that name."""
    from cliffracer.elsewhere import IMPORTS  # noqa: PLC0415 - only a mistake pays for it

    cure = IMPORTS.get(name)
    if importing and cure is not None:  # of an AttributeError Python tells less to who writes ``from cliffracer import ...``
        return ImportError(f"cliffracer has no {name}. {cure}", name="cliffracer")
    told = f"module 'cliffracer' has no attribute {name!r}"
    return AttributeError(told if cure is None else f"{told}. {cure}", name=name)


class Suggesting:
    """Adds a suggestion to the error for an attribute that it does not have."""

    __slots__ = ()

    if not TYPE_CHECKING:  # or it would have any

        def __getattr__(self, name: str) -> Never:
            """Raise the usual AttributeError, with the suggestion."""
            told = f"{type(self).__name__!r} object has no attribute {name!r}"
            try:
                from cliffracer.elsewhere import OF  # noqa: PLC0415 - as above
            except ImportError:  # as Python ends, or its files are being replaced: `hasattr` is answered all the same
                raise AttributeError(told, name=name, obj=self) from None
            cure = next((OF[kind.__name__].get(name) for kind in type(self).__mro__ if kind.__name__ in OF), None)
            raise AttributeError(f"{told}. {cure}" if cure else told, name=name, obj=self)
