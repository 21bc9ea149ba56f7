"""What a replica tells of itself when it is asked closely."""

from datetime import UTC, datetime

from cliffracer import App
from cliffracer.detail import Detail
from cliffracer.testing import running

app = App("clerk")


@app.rpc
@app.get("/desks/{number}")
async def desk(number: int) -> int:
    """Say where a desk is.

    In metres.
    """
    return number


@app.on("paper.*")
async def file_it(sheet: dict[str, int]) -> None: ...


@app.every("1h")
async def tidy() -> None: ...


@app.cron("0 9 * * MON", each=True)
async def greet() -> None: ...


@app.health_check("ink", critical=False)
async def ink() -> bool:
    return False


async def _asked(t):
    (found,) = await t._link.directory.ask("DETAIL", "clerk", kind=Detail, patience=1.0)
    return found


async def test_a_replica_tells_its_handlers_timers_and_health():
    """Each handler with its place and figures, each timer with when it is due, each check with what it found."""
    async with running(app) as t:
        await t.call("desk", number=1)
        found = await _asked(t)
        by_kind = {(h.kind, h.name): h for h in found.handlers}
        assert set(by_kind) == {
            ("rpc", "desk"), ("http", "GET /desks/{number}"), ("event", "paper.*"), ("timer", "every 1h"), ("timer", "0 9 * * MON UTC"),
        }  # fmt: skip
        desk = by_kind["rpc", "desk"]
        assert (desk.calls, desk.errors, desk.words) == (1, 0, "Say where a desk is.")
        assert "test_detail.py:" in desk.place
        assert [(timer.function, timer.plan, timer.each) for timer in found.timers] == [
            ("tidy", "every 1h", False), ("greet", "0 9 * * MON UTC", True),
        ]  # fmt: skip
        assert all(datetime.fromisoformat(timer.next or "") > datetime.now(UTC) for timer in found.timers)
        checks = {check.name: check for check in found.health}
        assert checks["nats"].reason == ""
        assert (checks["ink"].reason, checks["ink"].critical) == ("failed", False)


async def test_settings_are_told_with_their_source_and_without_secrets():
    """Secrets are masked; in production no value is told at all, nor in which file a function stands."""
    key = "k" * 16 + "0123456789abcdef!"
    async with running(app, auth_secret_key=key, auth_required=True) as t:
        found = await _asked(t)
        shown = {setting.name: setting for setting in found.settings}
        assert (shown["env"].value, shown["env"].given) == ("test", True)
        assert key not in str(found)
    async with running(app, env="production") as t:
        found = await _asked(t)
        assert {setting.value for setting in found.settings} == {""}
        assert {handler.place for handler in found.handlers} == {""}
        assert any(setting.origin == "argument" for setting in found.settings)
