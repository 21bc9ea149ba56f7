"""Cookies, also hostile ones."""

import pytest

from cliffracer.wire.cookies import parse_cookies


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        ("", {}),
        ("a=b", {"a": "b"}),
        ("a=b; c=d;e = f ;", {"a": "b", "c": "d", "e": "f"}),
        ('a="b c"; d="\\"\\\\\\101\\x"', {"a": "b c", "d": '"\\Ax'}),
        ("a=1; a=2", {"a": "1"}),
        ("=b; a; ;;=; c==d", {"c": "=d"}),
        ('a="', {"a": '"'}),
        ('a="\\"', {"a": "\\"}),
    ],
)
def test_cookies(header: str, cookies: dict[str, str]) -> None:
    """Pairs are found, quoted values unquoted, the first of a name kept, odd parts left out."""
    assert parse_cookies(header) == cookies


def test_hostile_value() -> None:
    """The longest value that fits a header is unquoted like any other."""
    assert parse_cookies('c="' + "\\" * 60_000 + '"') == {"c": "\\" * 30_000}
