"""How things are called in other frameworks, and what to write here instead."""

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
"""By the name that was imported."""

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
"""By the attribute of an app or a group."""


ROWS = {
    "save": "Write create(row), update(row) or upsert(row, on='email').",
    **dict.fromkeys(("add", "insert", "insert_one"), "Write create(row)."),
    **dict.fromkeys(("add_all", "bulk_create", "create_all", "insert_many"), "Write create_many(rows)."),
    **dict.fromkeys(
        ("all", "filter", "filter_by", "find_all", "list", "query", "select", "where"), "Write find(status='active', age__gte=18)."
    ),
    **dict.fromkeys(("find_one", "get_or_none", "one_or_none"), "Write first(email=email): None if there is none."),
    **dict.fromkeys(("find_by", "find_by_id", "get_by", "get_by_id"), "Write get(id), or get(email=email)."),
    **dict.fromkeys(("bulk_update", "update_all"), "Write update_many({'status': 'old'}, age__gt=99)."),
    **dict.fromkeys(("delete_all", "remove_all"), "Write delete_many(status='old')."),
    **dict.fromkeys(("destroy", "remove"), "Write delete(id)."),
    "get_or_create": "Write upsert(row, on='email').",
    "paginate": "Write page(after=cursor, limit=100).",
}
"""By the attribute of a repository."""

QUERIES = {
    **dict.fromkeys(("all", "fetch_all", "fetchall", "query", "select"), "Write fetch(User, 'select ... where name = %s', name)."),
    **dict.fromkeys(("fetch_row", "fetchone", "fetchrow", "first"), "Write fetch_one(User, 'select ...')."),
    **dict.fromkeys(("fetch_val", "fetchval", "scalar"), "Write fetch_value(int, 'select count(*) ...')."),
    **dict.fromkeys(("commit", "rollback"), "A transaction is committed at the end of its block, and undone by an exception."),
    **dict.fromkeys(("begin", "session"), "Write async with db.transaction()."),
    **dict.fromkeys(("execute_many", "executemany"), "Write create_many(rows) of a repository."),
    **dict.fromkeys(("cursor", "iterate"), "Write async for row in stream(User, 'select ...')."),
}
"""By the attribute of a database or a transaction."""

OF = {"Scope": ATTRIBUTES, "Repository": ROWS, "Queries": QUERIES}
"""By the class that lacks the attribute."""
