"""Limits on a Decimal of a Model: at the door, and in the database."""

from decimal import Decimal
from typing import Annotated

import pytest
from msgspec import Meta

from cliffracer import App, Model, Repository
from cliffracer.database import create_missing
from cliffracer.database.table import table_of
from cliffracer.errors import InvalidInput, SetupError
from cliffracer.testing import running


class Payment(Model):
    __tablename__ = "payments"
    amount: Annotated[Decimal, Meta(ge=0, multiple_of=0.01, description="in euros")]


app = App("paying")


@app.rpc
async def pay(payment: Payment, *, payments: Repository[Payment]) -> Payment:
    """Store a payment."""
    return await payments.create(payment)


@app.post("/payments")
async def pay_by_http(payment: Payment, *, payments: Repository[Payment]) -> Payment:
    """Store a payment."""
    return await payments.create(payment)


@app.get("/payments")
async def those_from(least: Annotated[Decimal, Meta(gt=0)], *, payments: Repository[Payment]) -> list[Payment]:
    """Find payments."""
    return await payments.find(amount__gte=least)


@app.rpc
async def raise_by(amount: Annotated[Decimal, Meta(gt=0)]) -> Decimal:
    """Return what was given."""
    return amount


async def test_model_with_limits_on_a_decimal_is_an_argument():
    """Over HTTP and RPC the handler gets what is within the limits, and its caller is told what is not."""
    async with running(app) as t:
        made = await t.call("pay", payment=Payment(amount=Decimal("1.50")))
        assert Decimal(made["amount"] if isinstance(made, dict) else made.amount) == Decimal("1.50")
        with pytest.raises(InvalidInput) as caught:
            await t.call("pay", payment={"amount": "-1"})
        assert caught.value.errors == [{"path": "payment.amount", "message": "must be at least 0"}]
        with pytest.raises(InvalidInput):
            await t.call("raise_by", amount="0")
        answer = await t.http.post("/payments", json={"amount": "2.25"})
        assert (answer.status_code, answer.json()["amount"]) == (200, "2.25")
        answer = await t.http.post("/payments", json={"amount": "-0.005"})
        assert answer.status_code == 422
        assert answer.json()["errors"] == [
            {"path": "amount", "message": "must be at least 0"},
            {"path": "amount", "message": "must be a multiple of 0.01"},
        ]
        answer = await t.http.get("/payments", params={"least": "0"})
        assert answer.json()["errors"] == [{"path": "least", "message": "must be greater than 0"}]
        answer = await t.http.get("/payments", params={"least": "2"})
        assert [payment["amount"] for payment in answer.json()] == ["2.25"]
        assert (await t.http.get("/openapi.json")).status_code == 200


class Score(Model):
    __tablename__ = "scores"
    points: int


@pytest.mark.parametrize("points", [2**63, 2**70, -(2**63) - 1])
@pytest.mark.parametrize("many", [1, 20])
async def test_a_number_that_has_no_room_is_named(db, points, many):
    """An argument may have 64 bits without a sign, and a handler's sum more: the field is told, and the row of many."""
    await create_missing(db, [Score])
    scores = db.repository(Score)
    there = await scores.create(Score(points=2**63 - 1))
    rows = [*(Score(points=place) for place in range(many - 1)), Score(points=points)]
    with pytest.raises(InvalidInput, match=r"^points: must be between -9223372036854775808 and 9223372036854775807$") as caught:
        await scores.create_many(rows)
    assert (caught.value.errors[0]["path"], caught.value.details["index"]) == ("points", many - 1)
    with pytest.raises(InvalidInput, match=r"^points"):
        await scores.update(there.id, points=points)


async def test_limits_of_a_decimal_are_checks(db):
    """The database holds them too, for whoever writes; the description is the column's comment."""
    await create_missing(db, [Payment])
    for amount in ("-1", "0.005"):
        with pytest.raises(InvalidInput) as caught:
            await db.repository(Payment).create(Payment(amount=Decimal(amount)))
        assert caught.value.errors[0]["path"] == "amount"
    assert await db.fetch_value(str, "select col_description('payments'::regclass, 4)") == "in euros"


def test_limits_inside_a_document_are_told():
    """What cannot be checked is a mistake that names the field."""

    class Split(Model):
        parts: list[Annotated[Decimal, Meta(ge=0)]]

    with pytest.raises(SetupError, match=r"Split\.parts: limits on a Decimal"):
        table_of(Split)
