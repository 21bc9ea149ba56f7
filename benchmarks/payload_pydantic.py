"""The same messages for the contestants that validate with pydantic."""

from pydantic import BaseModel


class Customer(BaseModel):
    name: str
    email: str


class Line(BaseModel):
    sku: str
    amount: int
    price: float


class Order(BaseModel):
    id: int
    customer: Customer
    lines: list[Line]
    note: str
    paid: bool


class Receipt(BaseModel):
    id: int
    customer: Customer
    lines: list[Line]
    total: float
    accepted: bool


def receipt(order: Order) -> Receipt:
    total = sum(line.amount * line.price for line in order.lines)
    return Receipt(id=order.id, customer=order.customer, lines=order.lines, total=total, accepted=order.paid)
