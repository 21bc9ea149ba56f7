"""What other frameworks call things, and what to write here: for the message of who looks for them by those names."""

IMPORTS = {
    **dict.fromkeys(("Cliffracer", "FastAPI", "Flask", "FastStream", "Litestar", "Service", "Starlette"), "Write App('users')."),
    **dict.fromkeys(("APIRouter", "Blueprint", "Router"), "Write Group('admin', prefix='/admin'), and app.include(group)."),
    **dict.fromkeys(("Depends", "Security"), "Put @app.provide on a function; ask for what it returns after a *: f(x, *, users: Users)."),
    **dict.fromkeys(("BackgroundTask", "BackgroundTasks"), "Emit an event: app.emit('user.created', user), for @app.on('user.created')."),
    **dict.fromkeys(("BaseModel", "Struct"), "Write from msgspec import Struct."),
    **dict.fromkeys(("Field", "Meta"), "Write from msgspec import Meta: Annotated[int, Meta(ge=0)]."),
    **dict.fromkeys(("FileResponse", "HTMLResponse", "JSONResponse", "RedirectResponse", "Response", "StreamingResponse"),
                    "Starlette's are taken as they are: from starlette.responses import ..."),
    **dict.fromkeys(("File", "Form"), "UploadFile is there, and makes the body a form."),
    "Body": "One Struct is the whole body; several parameters are its fields.",
    "HTTPException": "Raise NotFound(...), Conflict(...) and the like; that of starlette.exceptions works, too.",
    "Path": "Write {name} in the path, and name: int among the arguments.",
    "TestClient": "Write from cliffracer.testing import running: async with running(app) as t, and t.http.",
}  # fmt: skip
"""By the name that somebody imports."""

ATTRIBUTES = {
    **dict.fromkeys(("listen", "run", "serve", "start"), "Run it by: cliffracer run module:app."),
    **dict.fromkeys(("after_request", "before_request"), "Write @app.middleware on async def f(context, proceed)."),
    **dict.fromkeys(("errorhandler", "exception_handler", "add_exception_handler"), "Write @app.on_error(KeyError)."),
    **dict.fromkeys(("include_router", "register_blueprint"), "Write app.include(group)."),
    **dict.fromkeys(("event", "event_handler", "listener", "subscribe", "subscriber"), "Write @app.on('user.created')."),
    **dict.fromkeys(("publish", "publisher", "send"), "Write await app.emit('user.created', user)."),
    **dict.fromkeys(("job", "task"), "Write @app.rpc, called by app.service(...).send, or @app.on('user.created')."),
    **dict.fromkeys(
        ("config", "state"), "Put @app.provide on a function, and ask for what it returns; `Settings` is there to be asked for."
    ),
    **dict.fromkeys(("head", "options"), "Write @app.route('/path', methods=['GET', 'HEAD'])."),
    **dict.fromkeys(
        ("lifespan", "on_event", "teardown_appcontext"), "Write @app.on_startup and @app.on_shutdown, or @app.provide with a yield."
    ),
    **dict.fromkeys(
        ("dependency_overrides", "test_client"), "In a test: async with running(app, overrides={Mailer: FakeMailer()}) as t, and t.http."
    ),
    **dict.fromkeys(("method", "remote"), "Write @app.rpc."),
    **dict.fromkeys(("periodic_task", "schedule", "scheduled", "timer"), "Write @app.every('10m') or @app.cron('0 9 * * *')."),
}
"""By the name that somebody asks an app or a group for."""


def import_error(name: str) -> ImportError | None:
    """Return what is raised for a name that others have; None for one that nobody has."""
    told = IMPORTS.get(name)
    return None if told is None else ImportError(f"cliffracer has no {name}. {told}", name="cliffracer")


def attribute_error(owner: object, name: str) -> AttributeError:
    """Return what is raised for an attribute that an object has not, as Python would, with what to write where others have it."""
    told = f"{type(owner).__name__!r} object has no attribute {name!r}"
    cure = ATTRIBUTES.get(name)
    return AttributeError(f"{told}. {cure}" if cure else told, name=name, obj=owner)
