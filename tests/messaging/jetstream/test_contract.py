"""JetStream does what the contract of a broker says."""

import pytest

from cliffracer.messaging.backend import JetStreamBackend
from cliffracer.messaging.jetstream import JetStream
from cliffracer.wire.subjects import Subjects
from tests.messaging.contract import BackendContract

pytestmark = pytest.mark.both_transports


class TestJetStream(BackendContract):
    """Every test of the contract, on a real server."""

    @pytest.fixture
    async def backend(self, jetstream: JetStream) -> JetStreamBackend:
        """A backend on a server of its own."""
        return JetStreamBackend(jetstream, Subjects())
