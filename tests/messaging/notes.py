"""What a handler was given, for tests to look at."""

from collections.abc import Callable

from cliffracer.messaging.broker import Delivered


class Notes:
    """A handler that notes what it is given; ``fail`` decides what it raises."""

    def __init__(self, fail: Callable[[Delivered], BaseException | None] = lambda _: None) -> None:
        self.seen: list[tuple[str, bytes, int]] = []
        self._fail = fail

    async def __call__(self, delivery: Delivered) -> None:
        self.seen.append((delivery.subject, delivery.payload, delivery.attempt))
        error = self._fail(delivery)
        if error is not None:
            raise error

    @property
    def payloads(self) -> list[bytes]:
        """What was handled, in order."""
        return [payload for _, payload, _ in self.seen]
