"""What a process may publish and subscribe to on NATS: an allow list, since all else is denied then.

Replies need no rule of their own (``allow_responses``): by that whoever hears what it publishes itself, such as its own events,
may publish to whatever it named as the reply subject. Services publish to all inboxes instead, and hear their own.

Streams, buckets and durable consumers are made beforehand (`provision`): whoever may make a stream or a consumer can have
the server publish for him, or read what is none of his business, and NATS has no permission that is narrower.
"""

from collections.abc import Iterable, Sequence

import msgspec

from cliffracer.declarations import Subscription
from cliffracer.messaging.caches import forgetting
from cliffracer.messaging.discovery import VERBS
from cliffracer.messaging.ensuring import agreements
from cliffracer.messaging.jetstream import API
from cliffracer.messaging.revocations import SUBJECT as REVOKED
from cliffracer.messaging.stores import Bucket
from cliffracer.messaging.streams import later_stream, sends_stream, timer_subject, timers_stream
from cliffracer.permissions.needs import Needs, Process
from cliffracer.wire.subjects import inbox_prefix, named_within

DEPLOY = "deploy"
"""The user without limits, who provisions."""


class Permissions(msgspec.Struct, frozen=True):
    """Of one user: subjects as nats-server takes them; ``subject queue`` allows a subscription in that queue group alone."""

    user: str
    publish: list[str]
    subscribe: list[str]
    notes: list[str]


def permissions_of(process: Process) -> Permissions:
    """Return what the user of a process needs, and nothing else."""
    writer = _Writer(process)
    for app in process.apps:
        writer.app(app)
    return Permissions(
        user=process.name,
        publish=sorted(writer.publish),
        subscribe=sorted(writer.subscribe),
        notes=list(dict.fromkeys(f"{app.name}: {note}" for app in process.apps for note in app.unsaid())),
    )


def configuration(found: Sequence[Permissions]) -> str:
    """Return the users as nats-server reads them; passwords are variables of its environment."""
    lines = [
        "# Who may do what on NATS, written by `cliffracer permissions` from what the services declare.",
        '# In nats-server.conf: include "permissions.conf". The passwords are environment variables of nats-server,',
        """# each in quotes of its own, since it is read like a value here: NATS_PASSWORD_DEPLOY='"..."' nats-server -c nats-server.conf""",
        "authorization {",
        "  users = [",
        "    # Without limits, for `cliffracer provision` and other tools of yours.",
        f"    {{ user: {DEPLOY}, password: ${variable(DEPLOY)} }}",
    ]
    for one in found:
        lines += [f"    # {note}" for note in one.notes]
        lines += [
            "    {",
            f'      user: "{one.user}"',
            f"      password: ${variable(one.user)}",
            "      permissions: {",
            *_list("publish", one.publish),
            *_list("subscribe", one.subscribe),
            "      }",
            "    }",
        ]
    return "\n".join([*lines, "  ]", "}"]) + "\n"


def variable(user: str) -> str:
    """Return the environment variable of a user's password."""
    return f"NATS_PASSWORD_{user.upper().replace('-', '_')}"


def _list(name: str, subjects: Iterable[str]) -> list[str]:
    return [f"        {name}: {{ allow: [", *(f'          "{_escaped(subject)}"' for subject in subjects), "        ] }"]


def _escaped(subject: str) -> str:
    """Return a subject, which may have quotes in it, as the text of a string."""
    return subject.replace("\\", "\\\\").replace('"', '\\"')


class _Writer:
    """Collects the subjects of one user."""

    def __init__(self, process: Process) -> None:
        self.publish: set[str] = {"_INBOX.>"}  # to answer; the tokens of inboxes are random, so that nobody answers for another
        self.subscribe: set[str] = set()
        self._subjects = process.subjects
        self._namespace = process.subjects.namespace
        self._prefix = process.subjects.prefix
        self._inside = set(process.names) if len(process.names) > 1 else set()
        self.subscribe.add(f"{inbox_prefix(self._namespace, process.names)}.>")

    def app(self, app: Needs) -> None:
        """Add what one app needs."""
        self._answers(app)
        for record in app.events:
            self._hears(app, record)
        for function, records in app.durable.items():
            self._consumes(self._subjects.stream, app.consumer(function, records[0].group))
            self.publish.add(self._subjects.discovery("PING", "" if records[0].group else app.name))  # as above
        for call in app.calls:
            self._calls(call)
        self._emits(app)
        for pattern in app.frozen.bounds.follows or ():
            self.subscribe |= {self._subjects.event(pattern), self._subjects.came(pattern)}
        for timer in app.timers:
            self._ticks(app.consumer(f"{timer.function.__name__}-timer"))
        self._agrees(app)
        for bucket, _ in app.buckets():
            self._keeps(bucket, writes=True)
        for bucket in app.objects():
            self._stores(bucket)
        if app.frozen.cached:
            said = forgetting(self._subjects, app.name)
            self.publish.add(said)
            self.subscribe.add(said)
        self._asks_who(app)

    def _answers(self, app: Needs) -> None:
        subjects = self._subjects
        self.subscribe |= {subjects.cancel(app.name), f"{subjects.local(app.name)}*.*"}
        for verb in VERBS:
            self.subscribe |= {subjects.discovery(verb, *more) for more in ((), (app.name,), (app.name, "*"))}
        if not app.rpcs:
            return
        self.subscribe |= {f"{subjects.rpc(app.name, record.name)} {app.name}" for record, _ in app.rpcs}
        self.subscribe.add(subjects.send(app.name, "*"))
        self._consumes(sends_stream(subjects).name, app.consumer("send"))
        self.publish.add(subjects.discovery("PING", app.name))  # whether another version runs as well

    def _hears(self, app: Needs, record: Subscription) -> None:
        if record.durable:
            return
        queue = "" if record.each else f" {app.name}-{record.group or record.function.__name__}"
        self.subscribe |= {f"{door(record.subject)}{queue}" for door in (self._subjects.event, self._subjects.came)}

    def _calls(self, call: str) -> None:
        service, _, method = call.partition(".")
        subjects = self._subjects
        self.publish |= {subjects.rpc(service, method), subjects.send(service, method), subjects.cancel(service)}
        self.publish.add(subjects.discovery("INFO"))  # to say what is there when nobody answers
        self.publish.add(subjects.discovery("INFO", service))  # whether a call may be done twice
        if service in self._inside:
            self.publish.add(f"{subjects.local(service)}*.{method}")

    def _emits(self, app: Needs) -> None:
        if app.streams_out:
            self._api(f"STREAM.INFO.{self._subjects.stream}", f"STREAM.INFO.{sends_stream(self._subjects).name}")
        self.publish |= {self._subjects.event(pattern) for pattern in app.emits}
        if "delays" in app.uses:
            later = later_stream(self._subjects).name
            self._api(f"STREAM.INFO.{later}", f"STREAM.PURGE.{later}")
            self.publish.add(f"{self._prefix}cliffracer.later.*")

    def _consumes(self, stream: str, consumer: str) -> None:
        """Add what one durable consumer needs, with where it parks what cannot be handled."""
        dead = named_within(self._namespace, "DEAD")
        self._api(f"STREAM.INFO.{stream}", f"CONSUMER.INFO.{stream}.{consumer}", f"CONSUMER.MSG.NEXT.{stream}.{consumer}")
        self._api(f"STREAM.INFO.{dead}")
        self.publish |= {f"$JS.ACK.{stream}.{consumer}.>", f"$JS.ACK.*.*.{stream}.{consumer}.>"}
        self.publish.add(f"{self._prefix}cliffracer.dead.{consumer}.>")

    def _ticks(self, consumer: str) -> None:
        stream = timers_stream(self._subjects).name
        self._consumes(stream, consumer)
        self._api(f"STREAM.MSG.GET.{stream}", f"STREAM.PURGE.{stream}")
        subject = timer_subject(self._subjects, consumer)
        self.publish |= {subject, f"{subject}.*"}

    def _agrees(self, app: Needs) -> None:
        for name in app.locks() + ["*"] * ("locks" in app.uses):
            stream, subject = agreements(self._namespace, f"locks.{name}")
            self._api(f"STREAM.INFO.{stream}", f"STREAM.MSG.GET.{stream}")
            self.publish.add(subject)
            self.subscribe.add(subject)
        if "rooms" in app.uses:
            rooms = f"{self._prefix}cliffracer.rooms.*"
            self.publish.add(rooms)
            self.subscribe.add(rooms)

    def _asks_who(self, app: Needs) -> None:
        if not app.ruled:
            return
        revoked = f"{self._prefix}{REVOKED}"
        self.subscribe.add(revoked)
        self._keeps(app.revocations, writes=app.revokes)
        for bucket in app.tickets:
            self._keeps(bucket, writes=True)
        if app.revokes:
            self.publish.add(revoked)

    def _keeps(self, bucket: Bucket, *, writes: bool) -> None:
        name = named_within(self._namespace, bucket.name)
        self._api(f"STREAM.INFO.KV_{name}", f"STREAM.MSG.GET.KV_{name}", f"DIRECT.GET.KV_{name}.$KV.{name}.>")
        self._reads(f"KV_{name}")
        if writes:
            self.publish.add(f"$KV.{name}.>")

    def _stores(self, bucket: Bucket) -> None:
        name = named_within(self._namespace, bucket.name)
        stream = f"OBJ_{name}"
        self._api(*(f"STREAM.{verb}.{stream}" for verb in ("INFO", "MSG.GET", "MSG.DELETE", "PURGE")))
        self._reads(stream)
        self.publish.add(f"$O.{name}.>")

    def _reads(self, stream: str) -> None:
        """Add what reading a bucket in order needs: a consumer for as long as it is read."""
        self._api(*(f"CONSUMER.{verb}.{stream}.*" for verb in ("CREATE", "DELETE", "MSG.NEXT")))

    def _api(self, *verbs: str) -> None:
        self.publish |= {f"{API}{verb}" for verb in verbs}
