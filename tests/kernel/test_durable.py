"""What an app gets from JetStream beside plain events: timers, one-way calls, one function on several subjects."""

import pytest

from cliffracer import App, SetupError
from cliffracer.testing import running
from tests.support.waiting import eventually


async def test_a_timer_runs_while_the_app_does():
    """Once per cluster and in each replica, plain functions as well."""
    app, runs = App("reports"), []

    @app.every("200ms")
    async def purge() -> None:
        runs.append("cluster")

    @app.every(0.2, each=True)
    def refresh() -> None:
        runs.append("replica")

    async with running(app):
        await eventually(lambda: runs.count("cluster") > 1 and runs.count("replica") > 1)


async def test_a_bad_cron_expression_is_a_set_up_error():
    """It names the function and shows a good one."""
    app = App("reports")
    with pytest.raises(SetupError, match=r"nightly .*'\* \* \*' is no cron expression.*app\.cron"):

        @app.cron("* * *")
        async def nightly() -> None: ...


async def test_a_one_way_call_is_handled():
    """The caller goes on at once; the method runs as if it had been called."""
    app, charged = App("payments"), []

    @app.rpc
    async def charge(amount: int) -> None:
        charged.append(amount)

    async with running(app) as t:
        payments = app.service("payments")
        for amount in range(3):
            await payments.send.charge(amount=amount)
        await eventually(lambda: len(charged) == 3)
        await t.settled()
    assert sorted(charged) == [0, 1, 2]


async def test_a_one_way_call_waits_for_a_service_that_is_down():
    """It is stored, and handled when the service starts for the first time."""
    payments, shop, charged = App("payments"), App("shop"), []

    @payments.rpc
    async def charge(amount: int) -> None:
        charged.append(amount)

    async with running(shop) as t:
        await shop.service("payments").send.charge(amount=10)
        async with running(payments, settings=t.settings.changed(http_port=0)):
            await eventually(lambda: charged == [10])


async def test_a_function_on_several_subjects_gets_each_event_once():
    """Also where one pattern covers the other."""
    app, got = App("s"), []

    @app.on("user.created")
    @app.on("user.*")
    @app.on("order.placed")
    async def note(payload: int) -> None:
        got.append(payload)

    async with running(app) as t:
        await t.emit("user.created", 1)
        await t.emit("user.deleted", 2)
        await t.emit("order.placed", 3)
        await t.settled()
    assert sorted(got) == [1, 2, 3]
