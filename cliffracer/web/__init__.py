"""HTTP and WebSockets: Starlette's types, uvicorn's server, and endpoints of our own between them and `invoke`."""
