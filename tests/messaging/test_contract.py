"""The contract of a broker is not JetStream's alone: a backend that shares nothing with it passes the same tests."""

import pytest

from tests.messaging.contract import BackendContract
from tests.messaging.memory import MemoryBackend


class TestMemory(BackendContract):
    """Every test of the contract, without a server."""

    @pytest.fixture
    def backend(self) -> MemoryBackend:
        """A backend of its own."""
        return MemoryBackend()
