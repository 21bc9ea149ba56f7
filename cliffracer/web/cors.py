"""Which other sites' pages may call: off unless ``settings.cors_origins`` lists them."""

from starlette.datastructures import Headers
from starlette.middleware.cors import ALL_METHODS, CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from cliffracer.context import new_id
from cliffracer.settings import Settings
from cliffracer.wire.headers import CORRELATION


class Cors(CORSMiddleware):
    """Starlette's middleware with our settings: cookies only for origins that are listed by name, never for ``*``."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        super().__init__(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=ALL_METHODS,
            allow_headers=("*",),
            allow_credentials="*" not in settings.cors_origins,
            expose_headers=(CORRELATION, "Retry-After"),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a preflight request."""
        response = super().preflight_response(request_headers)
        response.headers[CORRELATION] = new_id()
        return response
