"""Tests of a service, on real servers: ``async with running(app, overrides={Mailer: FakeMailer()}) as t: ...``."""

from cliffracer.testing.trial import Running, running

__all__ = ["Running", "running"]
