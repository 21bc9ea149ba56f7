"""The one message that every contestant takes and the one that it answers: about 200 bytes of JSON each way."""

import msgspec


class Customer(msgspec.Struct):
    name: str
    email: str


class Line(msgspec.Struct):
    sku: str
    amount: int
    price: float


class Order(msgspec.Struct):
    id: int
    customer: Customer
    lines: list[Line]
    note: str
    paid: bool


class Receipt(msgspec.Struct):
    id: int
    customer: Customer
    lines: list[Line]
    total: float
    accepted: bool


class FrozenLine(msgspec.Struct, frozen=True):
    sku: str
    amount: int
    price: float


class FrozenCustomer(msgspec.Struct, frozen=True):
    name: str
    email: str


class FrozenOrder(msgspec.Struct, frozen=True):
    """The same message as a value that nobody can change, so that one serves many readers."""

    id: int
    customer: FrozenCustomer
    lines: tuple[FrozenLine, ...]
    note: str
    paid: bool


ORDER = Order(
    id=7,
    customer=Customer("Ada Lovelace", "ada@example.org"),
    lines=[Line("ENGINE-1", 2, 19.5), Line("CARDS-500", 3, 4.25)],
    note="leave it at the back door, please",
    paid=True,
)


def receipt(order: Order) -> Receipt:
    """Do the work of the handler: the same few operations for every contestant."""
    total = sum(line.amount * line.price for line in order.lines)
    return Receipt(order.id, order.customer, order.lines, total, order.paid)


RECEIPT = receipt(ORDER)
REQUEST = msgspec.json.encode(ORDER)
REPLY = msgspec.json.encode(RECEIPT)
decode_order = msgspec.json.Decoder(Order).decode
decode_receipt = msgspec.json.Decoder(Receipt).decode
encode = msgspec.json.Encoder().encode
HEADERS = {"X-Correlation-ID": "5f0c7e9a1b2d4c3e0000002a", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


def means_receipt(payload: bytes) -> bool:
    """Say whether an answer is the receipt, whatever its layout."""
    try:
        return bool(decode_receipt(payload) == RECEIPT)
    except msgspec.MsgspecError:
        return False
