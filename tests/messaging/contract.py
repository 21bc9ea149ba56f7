"""The contract of a broker as tests: a backend passes it by a class that has a ``backend`` fixture.

    class TestRedisStreams(BackendContract):
        @pytest.fixture
        async def backend(self): ...

``backend.store`` takes whole subjects, ``events.user.created``. A backend that keeps events only passes `EventsContract`.
"""

from tests.messaging.contracts.events import EventsContract
from tests.messaging.contracts.lasting import LastingContract
from tests.messaging.contracts.locks import LocksContract
from tests.messaging.contracts.sends import SendsContract
from tests.messaging.contracts.stores import StoresContract

__all__ = ["BackendContract", "EventsContract", "LastingContract", "LocksContract", "SendsContract", "StoresContract"]


class BackendContract(EventsContract, SendsContract, LastingContract, LocksContract, StoresContract):
    """All that a backend has to do."""
