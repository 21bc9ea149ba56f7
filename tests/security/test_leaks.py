"""That the run itself is watched for secrets: what is printed with one in it is found, and nothing else is."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(st.just("wait_seconds_total"))
def test_what_hypothesis_makes_up_is_no_secret(word: str) -> None:
    """It takes words out of our own sources: as a password of one test, the name of a figure was a leak of another."""
    leaks = Leaks()
    leaks.learn(word)
    assert leaks.found(f'{{"pool": {{"{word}": 1}}}}') == []


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


_CONFTEST = """
from tests.support.leaks import Leaks

def pytest_configure(config):
    leaks = Leaks()
    leaks.learn("abcd-0123456789-efgh")
    leaks.watch()
    config.pluginmanager.register(leaks, "leaks")
"""


def test_every_other_way_out_is_watched(pytester: pytest.Pytester) -> None:
    """Log files, what children and commands print, what a service answers of itself, logging: each fails the test; what is meant, not."""
    pytester.makeconftest(_CONFTEST)
    pytester.makepyfile(
        """
        import asyncio
        import logging
        import subprocess
        import sys

        import click
        import httpx
        from click.testing import CliRunner

        SAID = "abcd-0123456789-efgh"

        def test_file(tmp_path):
            (tmp_path / "nats").mkdir()
            (tmp_path / "nats" / "server.log").write_text(f"x {SAID} y")

        def test_file_of_another_kind(tmp_path):
            (tmp_path / ".env").write_text(f"AUTH_SECRET_KEY={SAID}")

        def test_child():
            subprocess.run([sys.executable, "-c", f"print('{SAID}')"], capture_output=True)

        def test_child_that_fails():
            subprocess.run([sys.executable, "-c", f"raise ValueError('{SAID}')"], capture_output=True, text=True)

        def test_child_of_a_loop():
            async def run():
                child = await asyncio.create_subprocess_exec(sys.executable, "-c", f"print('{SAID}')", stdout=asyncio.subprocess.PIPE)
                await child.communicate()
            asyncio.run(run())

        def test_child_that_means_it():
            subprocess.run([sys.executable, "-c", f"print('{SAID}')", "token", "issue"], capture_output=True)

        def test_command():
            CliRunner().invoke(click.Command("say", callback=lambda: click.echo(SAID)), [])

        def _ask(path, status):
            async def ask():
                answer = httpx.MockTransport(lambda request: httpx.Response(status, json={"key": SAID}))
                async with httpx.AsyncClient(transport=answer, base_url="http://x") as client:
                    await client.get(path)
            asyncio.run(ask())

        def test_health():
            _ask("/health/detailed", 200)

        def test_problem():
            _ask("/anything", 500)

        def test_answer():
            _ask("/auth/login", 200)

        def test_logging():
            logging.getLogger("x").error(SAID)
        """
    )
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio", "-rf")
    done.assert_outcomes(passed=3, failed=8)
    done.stdout.no_fnmatch_line("*abcd-0123456789-efgh*")
    done.stdout.fnmatch_lines(["*secrets were let out, which begin with: file server.log: abcd*"])


def test_a_traceback_keeps_its_secrets(pytester: pytest.Pytester) -> None:
    """A test that fails anyhow shows neither in its traceback nor in what it printed what was secret, and says that it would have."""
    pytester.makeconftest(_CONFTEST)
    pytester.makepyfile(
        """
        def test_fails():
            print("abcd-0123456789-efgh")
            assert "abcd-0123456789-efgh" == "another"
        """
    )
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio")
    done.assert_outcomes(failed=1)
    done.stdout.no_fnmatch_line("*abcd-0123456789-efgh*")
    done.stdout.fnmatch_lines(["*its traceback: abcd*"])


def test_a_test_may_confide_a_short_one(pytester: pytest.Pytester) -> None:
    """From 8 characters on, for that test alone."""
    pytester.makeconftest(f"{_CONFTEST}\nfrom tests.conftest import confide")
    pytester.makepyfile(
        """
        import pytest

        def test_tells(confide):
            print(confide("hunter22"))

        def test_after():
            print("hunter22")

        def test_too_short(confide):
            with pytest.raises(ValueError):
                confide("hunter2")
        """
    )
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio")
    done.assert_outcomes(passed=2, failed=1)


def test_long_texts_are_searched_as_short_ones() -> None:
    """Where there is much to look through, the same is found."""
    leaks = Leaks()
    for number in range(300):
        leaks.learn(f"secret-less-{number:04d}-and-more".replace("secret", "hidden"))
    leaks.learn("hidden-less-0007-and-more-of-it")
    text = "x" * 50_000 + "hidden-less-0007-and-more-of-it" + "y" * 50_000 + "hidden-less-0299-and-more"
    assert set(leaks.found(text)) == {"hidden-less-0007-and-more", "hidden-less-0007-and-more-of-it", "hidden-less-0299-and-more"}
