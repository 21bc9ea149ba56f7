"""HTTP and WebSockets: Starlette's types, uvicorn's server, and our own endpoints between them and `invoke`."""
