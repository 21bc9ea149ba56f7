"""Starlette with msgspec by hand: the baseline over HTTP."""

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.contestants.serving import PORT
from benchmarks.payload import ORDER, decode_order, encode, receipt


async def show(request: Request) -> Response:
    int(request.path_params["order_id"])
    return Response(encode(receipt(ORDER)), media_type="application/json")


async def place(request: Request) -> Response:
    order = decode_order(await request.body())
    return Response(encode(receipt(order)), status_code=201, media_type="application/json")


app = Starlette(routes=[Route("/orders/{order_id}", show), Route("/orders", place, methods=["POST"])])
uvicorn.run(app, host="127.0.0.1", port=PORT, http="httptools", loop="uvloop", log_level="warning", access_log=False)
