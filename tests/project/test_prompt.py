"""What a prompt, a debugger and another process see of the public names."""

import pydoc

import pytest

import cliffracer


@pytest.mark.parametrize("name", ["", *cliffracer.__all__])
def test_help_has_something_to_say(name: str) -> None:
    """`help(cliffracer)` and `help` of every public name print, whatever their defaults are like."""
    assert pydoc.render_doc(getattr(cliffracer, name) if name else cliffracer)
