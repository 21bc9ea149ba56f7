"""That the run itself is watched for secrets: what is printed with one in it is found, and nothing else is."""

import secrets

import pytest

from cliffracer.security.tokens import Tokens
from cliffracer.settings import Secret, Settings
from tests.security.corpus import KEY
from tests.support.leaks import Leaks

pytest_plugins = ("pytester",)


def test_the_run_is_watched(pytestconfig: pytest.Config) -> None:
    """Whatever became a Secret in any test, and every token, is known to what looks at the output of all of them."""
    from cliffracer.security.authority import tokens_of

    leaks = pytestconfig.pluginmanager.get_plugin("leaks")
    assert isinstance(leaks, Leaks)
    password = secrets.token_urlsafe(24)
    Secret(password)
    token = tokens_of(Settings(auth_secret_key=KEY)).issue("ada", ttl=60)
    for one in (password, KEY, token):
        assert leaks.found(f"a line with {one} in it") == [one]
    assert leaks.found(f"Settings(auth_secret_key={Secret(password)!r})") == []
    assert Tokens.issue.__name__ == "issued"


def test_a_test_that_prints_a_secret_fails(pytester: pytest.Pytester) -> None:
    """On standard output or standard error, before, in or after the test: the report says that it did, and not what."""
    pytester.makeconftest(
        """
        from tests.support.leaks import Leaks

        def pytest_configure(config):
            leaks = Leaks()
            leaks.learn("abcd-0123456789-efgh")
            config.pluginmanager.register(leaks)
        """
    )
    pytester.makepyfile(
        """
        import sys
        import pytest

        def test_out():
            print("x abcd-0123456789-efgh y")

        def test_err():
            print("abcd-0123456789-efgh", file=sys.stderr)

        @pytest.fixture
        def telling():
            yield
            print("abcd-0123456789-efgh")

        def test_after(telling):
            pass

        def test_fine():
            print("abcd-0123456789-e")
        """
    )
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio", "--show-capture=no")
    done.assert_outcomes(passed=2, failed=2, errors=1)
    done.stdout.no_fnmatch_line("*abcd-0123456789-efgh*")
