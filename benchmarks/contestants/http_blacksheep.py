"""BlackSheep with msgspec by hand."""

import uvicorn
from blacksheep import Application, Content, Request, Response

from benchmarks.contestants.serving import PORT
from benchmarks.payload import ORDER, decode_order, encode, receipt

app = Application()


@app.router.get("/orders/{order_id}")
async def show(order_id: int) -> Response:
    return Response(200, None, Content(b"application/json", encode(receipt(ORDER))))


@app.router.post("/orders")
async def place(request: Request) -> Response:
    order = decode_order(await request.read() or b"")
    return Response(201, None, Content(b"application/json", encode(receipt(order))))


uvicorn.run(app, host="127.0.0.1", port=PORT, http="httptools", loop="uvloop", log_level="warning", access_log=False)
