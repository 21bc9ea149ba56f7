"""What the providers of an app mean for answers that are kept: one that is made per call may look at whoever calls."""

from collections.abc import Iterable, Iterator, Sequence

from cliffracer.caching.cached import SEEN, Cached
from cliffracer.caching.keys import IDENTITY
from cliffracer.declarations import Provider, refuse, where
from cliffracer.providers import built_in, key_of
from cliffracer.signature import Signature, read


def check_providers(records: Iterable[Cached], providers: Sequence[Provider]) -> None:
    """Raise `SetupError` for a function whose answer depends on more than its key, by way of a provider."""
    for record in records:
        for provider, name in _seen(record.signature, providers):
            if name == IDENTITY and record.shared:
                problem, cure = f"it depends on the identity that {where(provider.function)} asks for", "Leave out shared=True."
            elif name in SEEN and not record.shared and record.vary is None:
                problem = f"its answer may depend on what {where(provider.function)} is given, such as headers"
                cure = "Say vary=lambda context: ... what tells answers apart, or shared=True if all callers get the same."
            else:
                continue
            raise refuse(record.function, problem, cure)


def _seen(signature: Signature, providers: Sequence[Provider]) -> Iterator[tuple[Provider, str]]:
    """Yield each provider that is asked for each call, near or far, with what it looks at."""
    known = {provider.provides: provider for provider in providers if provider.scope == "call"}
    found: dict[int, Provider] = {}
    waiting = [signature]
    while waiting:
        for parameter in waiting.pop().needs:
            provider = known.get(key_of(parameter.annotation))
            if provider is not None and id(provider) not in found:
                found[id(provider)] = provider
                needed = read(provider.function)
                waiting.append(needed)
                yield from ((provider, name) for p in needed.needs if (name := built_in(p.annotation)) is not None)
