"""The numbers that pages name are those of the code: where one changes, its sentence does."""

import inspect
import re

import pytest

from cliffracer import App, Breaker, Retry, Settings, backlog, members
from cliffracer.caching import answers, memory, outage
from cliffracer.database import bulk
from cliffracer.declarations import RETRY
from cliffracer.messaging import caches, consumption, feeds, ordered, policy, publishing, rates, siblings, timers
from cliffracer.messaging.configurations import NANOSECONDS
from cliffracer.messaging.streams import events_stream
from cliffracer.observability import metrics
from cliffracer.security import attempts, authority, browser, keyring, passwords, sessions
from cliffracer.web import server
from cliffracer.wire.subjects import Subjects
from tests.project.places import ROOT

MIB, DAY = 2**20, 86_400
WORDS: dict[float, str] = {2: "two", 3: "three", 5: "five", 10: "ten", 100: "a hundred"}
S = Settings()
LEAD = inspect.signature(App.leader).parameters["ttl"].default
TRIES = f"{', '.join(map(str, RETRY[:-1]))} and {RETRY[-1]} seconds"
SAID = {
    "semantics.md": (
        f"with one `id` within {WORDS[events_stream(Subjects('')).duplicate_window // (60 * NANOSECONDS)]} minutes",
        f"At most {publishing.LIMIT:,} emits of a process",
        f"Over `NATS_MAX_MESSAGE` ({S.nats_max_message // MIB} MiB)",
        f"goes to another after {consumption.ACK_WAIT:g} seconds",
        f"and {WORDS[policy.UNFINISHED]} more (`ordered=True`: {WORDS[ordered.Ordered._unfinished]} more",
        f"within {WORDS[siblings.MEMORY // 60]} minutes, {'fifty' if policy.PASSED_ON == 50 else policy.PASSED_ON} more",
        f"the event comes back after {policy.PARK_AGAIN:g} seconds",
        f"no more than {ordered.WINDOW:,} events wait so ({ordered.ASIDE // MIB} MiB of them in memory)",
        f"tried again after {TRIES}",
        f"another takes over within {timers.LEASE:g} seconds; within {2 * timers.LEASE:g} where its machine stands still",
        f"more than {members.QUEUE} messages wait for it and it takes none for {backlog.PATIENCE:g} second".replace("1 second", "a second"),
        f"or {backlog.MOST:,} of them, or {backlog.MOST_BYTES // MIB} MiB, wait",
        f"more than {feeds.LIMIT:,} events waiting, or that has {backlog.MOST:,} of them, or {backlog.MOST_BYTES // MIB} MiB",
        f"what none has subscribed to for {'half a minute' if siblings.QUIET == 30 else siblings.QUIET}",
        f"`AUTH_BACKLOG` ({S.auth_backlog / DAY:g} days)",
    ),
    "deployment.md": (
        f"`CLIFFRACER_DRAIN` ({S.drain:g} s)",
        f"they go to another replica after {consumption.ACK_WAIT:g} seconds",
    ),
    "identity.md": (
        f"{S.auth_access_ttl / 60:g} minutes, {S.auth_refresh_ttl / DAY:g} days",
        f"after its token has ended: {S.auth_backlog / DAY:g} days",
        f"{'twelve' if browser.LASTS == 12 * 3600 else browser.LASTS} hours",
        f"a password has {passwords.SHORTEST} or more, and {passwords.LONGEST:,} bytes at most",
        f"{WORDS[attempts.PER_ACCOUNT]} tries per account and {WORDS[attempts.PER_ADDRESS]} per address",
        f"in {WORDS[attempts.WINDOW // 60]} minutes, for all replicas together, and {WORDS[attempts.PER_RESET]} resets",
        f"good for {sessions.RESET_LIFE / 60:g} minutes",
        f"for {'half a minute' if authority.TICKET_LIFE == 30 else authority.TICKET_LIFE}",
    ),
    "how-to/api-keys.md": (f"with a token of {WORDS[keyring.LIFE // 60]} minutes",),
    "how-to/caching.md": (
        f"waited for {WORDS[answers.LEASE]} seconds at most",
        f"A lookup takes {'half a second' if outage.PATIENCE == 0.5 else outage.PATIENCE} at most",
        f"In memory {memory.BYTES // MIB} MiB of answers are kept per app, in NATS {caches.BYTES // MIB} MiB per service",
    ),
    "how-to/database.md": (
        f"fewer than {bulk.COPY_FROM} rows as one statement",
        f"by statements of {bulk.CHUNK} rows",
        f"({S.database_pool_min} to {S.database_pool_max})",
    ),
    "how-to/events.md": (f"after {TRIES}",),
    "how-to/http.md": (f"Bodies over {S.http_max_body // MIB} MiB are refused", f"cut off after {S.http_timeout:g} s (`HTTP_TIMEOUT`)"),
    "how-to/large.md": (f"Over `NATS_MAX_MESSAGE` ({S.nats_max_message // MIB} MiB)", f"{S.http_max_body // MIB} MiB, or `HTTP_MAX_BODY`"),
    "how-to/observability.md": (f"buckets from {2 ** metrics._BOUNDS[0]} µs to {2 ** metrics._BOUNDS[-1] / 1e6:.0f} s",),
    "how-to/resilience.md": (
        f"one waits {WORDS[rates.PATIENCE]} seconds to find out, nobody in the {WORDS[rates.REST]} after",
        f"`CLIFFRACER_DRAIN` ({S.drain:g} s)",
        f"{S.wait:g} s of patience (`CLIFFRACER_WAIT`)",
        f"Retry(attempts={Retry().attempts}, base={Retry().base}, cap={Retry().cap}, budget={Retry().budget})",
        f"Breaker(failures={Breaker().failures}, window={Breaker().window:g}, reset={Breaker().reset:g})",
    ),
    "how-to/rpc.md": (f"Every call has a deadline, {S.deadline:g} seconds", f"after {TRIES}"),
    "how-to/timers.md": (f"gone for {LEAD:g} seconds", f"another takes over within {timers.LEASE:g} seconds"),
    "how-to/troubleshooting.md": (f"(`CLIFFRACER_WAIT`, {S.wait:g} s)",),
    "tutorial/3-events.md": (f"back after {TRIES}",),
    "tutorial/4-two-services.md": (f"({S.deadline:g} seconds unless you say otherwise)",),
    "how-to/websockets.md": (f"a frame over {server.MAX_FRAME // MIB} MiB",),
}


@pytest.mark.parametrize(("page", "sentence"), [(page, sentence) for page, several in SAID.items() for sentence in several])
def test_a_number_on_a_page_is_that_of_the_code(page: str, sentence: str) -> None:
    """Tests of behaviour make these numbers small, or they would last for minutes; so nothing else notices that one is another."""
    text = " ".join((ROOT / "docs" / page).read_text().split())
    assert re.search(re.escape(sentence), text, re.IGNORECASE)
