"""What JetStream keeps: dead letters to look at, mend and replay; streams, and how far behind their consumers are."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from cliffracer.client import AsyncClient
from cliffracer.errors import InvalidInput, NotFound
from cliffracer.messaging.broker import Parked
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.jetstream import ConsumerInfo, JetStream, StreamInfo
from cliffracer.observability.redact import unsecret

PAGE = 50
_MOST = 1000
"""Letters that one request replays or discards."""
_STREAMS = 200


class Filters(msgspec.Struct, frozen=True):
    """Which dead letters are meant: all that fit each of these that is not empty."""

    service: str = ""
    function: str = ""
    subject: str = ""


class Storage:
    """The streams of one namespace."""

    def __init__(self, client: AsyncClient) -> None:
        self._jetstream = JetStream(client.link.bus)
        self._namespace = client.link.subjects.namespace
        self._letters = DeadLetters(self._jetstream, client.link.subjects)

    async def count(self) -> int:
        """Return how many dead letters there are."""
        return await self._letters.count()

    async def dead(self, filters: Filters, after: int) -> dict[str, Any]:
        """Return a page of dead letters, oldest first, and whether there are more."""
        found: list[Parked] = []
        async for parked in self._ls(filters, after):
            found.append(parked)
            if len(found) > PAGE:
                break
        return {"total": await self.count(), "letters": [_brief(one) for one in found[:PAGE]], "more": len(found) > PAGE}

    def _ls(self, filters: Filters, after: int = 0) -> AsyncIterator[Parked]:
        return self._letters.ls(service=filters.service, function=filters.function, subject=filters.subject, after=after)

    async def letter(self, number: int) -> dict[str, Any]:
        """Return one dead letter with all that is known of it; `NotFound` if it is gone."""
        parked = await self._letters.show(number)
        text, valid = _text(parked.payload)
        gone = bool(parked.claim) and not parked.payload
        whole = {"headers": unsecret(parked.headers), "traceback": parked.traceback, "consumer": parked.consumer, "stream": parked.stream}
        return {**_brief(parked), **whole, "sequence": parked.sequence, "data": text, "json": valid, "gone": gone}

    async def replay(self, number: int, data: str | None) -> None:
        """Hand a letter to the function that failed again, with other data if some are given; `InvalidInput` if they are no JSON."""
        if data is None:
            await self._letters.replay(number)
            return
        try:
            payload = msgspec.json.encode(msgspec.json.decode(data))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise InvalidInput("the data are no JSON", errors=[{"path": "data", "message": str(error)}]) from None
        await self._letters.replay(number, payload=payload)

    async def discard(self, number: int) -> None:
        """Remove a letter for good."""
        await self._letters.discard(number)

    async def each(self, action: str, filters: Filters) -> dict[str, Any]:
        """Replay or discard every letter that fits, some hundreds at most; say how many, and what went wrong with others."""
        chosen = []
        async for parked in self._ls(filters):
            chosen.append(parked.id)
            if len(chosen) == _MOST:
                break
        failed: dict[int, str] = {}
        for number in chosen:
            try:
                await (self._letters.replay(number) if action == "replay" else self._letters.discard(number))
            except NotFound as error:  # gone meanwhile, or nobody subscribes any more: the others need not wait
                failed[number] = error.message
        return {"done": len(chosen) - len(failed), "failed": failed}

    async def streams(self) -> list[dict[str, Any]]:
        """Return the streams of the namespace with their consumers; the largest lag first."""
        prefix = f"{self._namespace}_" if self._namespace else ""
        names = sorted(name for name in await self._jetstream.stream_names() if _of(name, prefix))[:_STREAMS]
        found = []
        for name in names:
            try:
                info, consumers = await self._jetstream.stream(name), await self._jetstream.consumers(name)
            except NotFound:  # deleted while we looked
                continue
            found.append(_stream(info, consumers))
        return found


def _of(name: str, prefix: str) -> bool:
    return name.removeprefix("KV_").removeprefix("OBJ_").startswith(prefix)


def _stream(info: StreamInfo, consumers: list[ConsumerInfo]) -> dict[str, Any]:
    config, state = info.config, info.state
    kind = {"KV_": "key-value", "OBJ": "objects"}.get(config["name"][:3], "stream")
    limits = {name: config.get(name) for name in ("max_msgs", "max_bytes", "max_age") if (config.get(name) or -1) > 0}
    return {
        "name": config["name"],
        "kind": kind,
        "description": config.get("description", ""),
        "subjects": config.get("subjects") or [],
        "storage": config.get("storage", ""),
        "replicas": config.get("num_replicas", 1),
        "limits": limits,
        "messages": state.messages,
        "bytes": state.bytes,
        "last": state.last_seq,
        "consumers": sorted((_consumer(one) for one in consumers), key=lambda one: (-one["waiting"], one["name"])),
    }


def _consumer(info: ConsumerInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "durable": bool(info.config.get("durable_name")),
        "waiting": info.num_pending,
        "in_hand": info.num_ack_pending,
        "again": info.num_redelivered,
        "readers": info.num_waiting,
        "at": info.delivered.stream_seq,
        "filters": info.config.get("filter_subjects") or list(filter(None, [info.config.get("filter_subject")])),
    }


def _brief(parked: Parked) -> dict[str, Any]:
    return {name: getattr(parked, name) for name in ("id", "subject", "service", "function", "error", "attempts", "parked")}


def _text(payload: bytes) -> tuple[str, bool]:
    """Return data as text to be edited, and whether they are JSON."""
    try:
        return msgspec.json.format(payload, indent=2).decode() if payload else "null", True
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return payload.decode("utf-8", "backslashreplace"), False
