"""What one line about one call costs: by loguru, as text and serialised, and the way of ``log_calls``."""

import os

from loguru import logger

from benchmarks.database.paired import Table, Work, compare
from cliffracer.context import Context, new_id
from cliffracer.observability.calls import CallLog

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def tables(rounds: int, calls: int) -> list[Table]:
    """Return the one comparison; every line is written, to a file that keeps nothing. loguru must have no other sink."""
    with open(os.devnull, "w", encoding="utf-8") as sink:  # noqa: ASYNC230, PTH123 - of this table only

        def by_loguru(**options: bool) -> Work:
            async def work() -> None:
                number = logger.add(sink, level="INFO", **options)  # type: ignore[call-overload]
                for _ in range(calls):
                    context = _context()
                    bound = logger.bind(service=context.service, handler=context.handler, correlation_id=context.correlation_id)
                    bound.info("call ok ms={}", 1.5)
                logger.remove(number)

            return work

        def by_call_log(share: float) -> Work:
            def write(text: str) -> None:
                sink.write(text)
                sink.flush()

            async def work() -> None:
                with CallLog(share, write=write) as log:
                    for _ in range(calls):
                        log.record(_context(), 1.5, "ok")

            return work

        works: dict[str, tuple[Work, int]] = {
            "loguru, text": (by_loguru(), calls),
            "loguru, serialised": (by_loguru(serialize=True), calls),
            "log_calls = 1": (by_call_log(1.0), calls),
            "log_calls = 0.01": (by_call_log(0.01), calls),
        }
        return [await compare("A log line of a call", "one call, its context made", works, rounds=rounds)]


def _context() -> Context:
    return Context("order_service", "place", "rpc", found_id=new_id(), found_trace=TRACE)
