"""What is misspelt is found while it is written: names of the package, options of decorators and of events."""

from typing import Any

from cliffracer import App, Apple, Context, connect  # E: Module "cliffracer" has no attribute "Apple"

app = App("shop")
print(Apple)


@app.get("/a", stauts=201)  # E: Unexpected keyword argument "stauts" for "get"
async def a() -> int:
    return 1


@app.post("/b", status="created")  # E: Argument "status" to "post"
async def b() -> int:
    return 1


@app.every("1h", rate="1/s")  # E: Argument "rate" to "every"
async def c() -> None: ...


@app.middleware  # E: Value of type variable "Around"
async def around(context: Context) -> Any:
    return context


@app.rpc
async def who(*, context: Context) -> str:
    return context.identity.subject  # E: Item "None" of "Identity | None" has no attribute "subject"


app.use(3)  # E: Argument 1 to "use"
app.mount("/a", 3)  # E: Argument 2 to "mount"


def script() -> None:
    with connect() as client:
        client.emit("user.created", 1, delya="10m")  # E: Unexpected keyword argument "delya" for "emit"
        client.service("users", retries=3)  # E: Unexpected keyword argument "retries" for "service"
