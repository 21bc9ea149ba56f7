"""What a service publishes by discovery (ADR-32): its methods with input, output and rules; what it subscribes to."""

from collections.abc import Iterable

from cliffracer.assembly import Assembly
from cliffracer.declarations import Rpc, Subscription
from cliffracer.frozen import Frozen
from cliffracer.messaging.described import described
from cliffracer.messaging.directory import IDEMPOTENT
from cliffracer.messaging.siblings import TOLD, Told, told


def schemas_of(assembly: Assembly) -> dict[str, dict[str, str]]:
    """Return the metadata of each method, by its name."""
    repeatable, found = assembly.frozen.repeatable(), dict[str, dict[str, str]]()
    for record, declared in assembly.frozen.of(Rpc):
        if declared.signature:
            idempotent = record.function in repeatable if record.idempotent is None else record.idempotent
            found[record.name] = described(declared.signature) | _policy(assembly, record) | ({IDEMPOTENT: "true"} if idempotent else {})
    return found


def metadata_of(frozen: Frozen, env: str, consumers: Iterable[Told]) -> dict[str, str]:
    """Return the metadata of the service, with what its consumers take, for replicas of other versions."""
    events = ",".join(sorted({record.subject for record, _ in frozen.of(Subscription)}))
    return {"cliffracer": "1", "env": env, TOLD: told(consumers), **({"events": events} if events else {})}


def _policy(assembly: Assembly, record: Rpc) -> dict[str, str]:
    policy = None if assembly.rules is None else assembly.rules.policy(record)
    return {} if policy is None else {"policy": str(policy)}
