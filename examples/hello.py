"""The smallest useful service: one function that answers RPC over NATS and HTTP alike.

```sh
cliffracer run examples.hello:app
```

Then, in another terminal:

```sh
$ cliffracer call hello.greet name=Ada
"Hello, Ada!"
$ curl -s 'http://127.0.0.1:8000/greet?name=Ada'
"Hello, Ada!"
```
"""

from cliffracer import App

# Importing this file connects to nothing and starts nothing: an App only collects declarations.
app = App("hello")


# Both decorators return the function unchanged, so a unit test calls it directly: `await greet("Ada")`.
@app.rpc
@app.get("/greet")
async def greet(name: str = "world") -> str:
    """Greet somebody."""  # the first line becomes the summary in /openapi.json
    return f"Hello, {name}!"
