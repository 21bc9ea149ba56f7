"""What some apps need where they run, read off their declarations and settings: for every kind of file that `deploy` writes."""

import os
import re
from collections.abc import Iterator, Sequence

from cliffracer.declarations import Subscription
from cliffracer.frozen import Frozen
from cliffracer.messaging.streams import durable_name
from cliffracer.observability.tracing import exporter
from cliffracer.permissions import network
from cliffracer.permissions.needs import processes
from cliffracer.settings import Settings
from cliffracer.settings.secret import Secret
from cliffracer.wire.subjects import Subjects

HTTP_PORT = 8000
_PLACE = re.compile(r"env|nats_url|database_urls?|db_.*|redis_url|http_host|http_port|log_format|wait")
"""Settings that are those of where it runs, or of this machine: not taken along."""
_NO_TAG = re.compile(r"[^A-Za-z0-9_.-]+")
"""What the tag of an image may not have, and a version may: the + of a build."""
_DOCUMENTS = frozenset({"nats_tls_ca", "nats_tls_cert"})
"""Settings that may be the path of a file here; there they are in the secret, as what is in it."""


class Plan:
    """The one process that runs these apps, and its replicas."""

    def __init__(self, frozen: Sequence[Frozen], targets: tuple[str, ...], image: str, settings: Settings, *, keda: bool = False) -> None:
        (process,) = processes(frozen, settings, together=True)
        self.name = network.pods_of(process)
        self.image = image or f"{self.name}:{_NO_TAG.sub('-', frozen[0].version)[:128].lstrip('.-') or 'latest'}"
        self.database = any(f.needs_database for f in frozen)
        self.http = any(f.needs_http for f in frozen)
        self.targets = targets
        self.command = ["cliffracer", "run", *targets]
        """What runs, whatever the image has as its entry point, as ours has: that is overridden wherever this is given."""
        self.drain = settings.drain
        self.keda = keda
        subjects = Subjects(settings.namespace)
        self.stream = subjects.stream
        durable = [(f.name, record) for f in frozen for record, _ in f.of(Subscription) if record.durable]
        self.consumers = sorted({durable_name(subjects, name, record.function.__name__, record.group) for name, record in durable})
        self.policies = network.of_process(process, settings)
        """Whom it may reach on the network, and who may reach it: the same that `cliffracer permissions` writes."""
        self.config = dict(_config(settings))
        """Settings that were given and are no secret, as environment variables."""
        signs = any(app.ruled for app in process.apps) and settings.oidc_issuer is None and settings.auth_keys is None
        redis = any(app.redis for app in process.apps)
        database = "DATABASE_URLS" if settings.database_urls else "DATABASE_URL"
        needed = (("NATS_URL", True), (database, self.database), ("REDIS_URL", redis), ("AUTH_SECRET_KEY", signs))
        wanted = {
            "accounts": any("Sessions" in app.kept() for app in process.apps),
            "nkeys": settings.nats_creds is not None or settings.nats_nkey is not None,
            "oidc": settings.oidc_issuer is not None,
            "otel": exporter(os.environ) is not None,
            "redis": redis,
        }
        self.extras = [extra for extra, asked in wanted.items() if asked]
        """Extras of ours that it needs where it runs."""
        self.secrets = list(dict.fromkeys([*(name for name, asked in needed if asked), *_secrets(settings)]))
        """Variables whose values are nobody's business; only where they are to be found is written."""


def _config(settings: Settings) -> Iterator[tuple[str, str]]:
    for setting in settings.sources():
        if str(setting.origin) == "default" or _PLACE.fullmatch(setting.name) or setting.name in _DOCUMENTS:
            continue
        if not isinstance(getattr(settings, setting.name), Secret):
            yield f"CLIFFRACER_{setting.name.upper()}", setting.value


def _secrets(settings: Settings) -> Iterator[str]:
    for setting in settings.sources():
        hidden = isinstance(getattr(settings, setting.name), Secret) or setting.name in _DOCUMENTS
        if hidden and str(setting.origin) != "default" and not _PLACE.fullmatch(setting.name):
            yield setting.name.upper()
