"""Measures other packages at the same job, as multiples of the same floors as the gate's rows.

- A package that is not installed is left out; ``make bench-peers`` installs them all.
- Each package has its cache on, if it has a cache, and asks for the same scope, if it knows scopes.
- Packages are imported by name, so that types are checked without them as well.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from secrets import token_bytes, token_hex
from typing import TYPE_CHECKING, Any

from frameworks import asgi, flask_app, hello, view, wsgi
from measure import Row
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser, requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Route
from verification import ADDRESS, floor

from faregate.credentials.opaque import mint

if TYPE_CHECKING:
    from contextlib import ExitStack
    from pathlib import Path

    from measure import Calls
    from starlette.requests import HTTPConnection

DAY = timedelta(days=1)
SCOPE = "docs:read"
USER = "bench"


def verifying(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the rows of other stores of tokens.

    A process may call it only once, because Django can be set up only once.
    """
    rows = [Row("F", floor(mint("fg", "tok")))]

    if installed("safe_api_keys"):
        calls = safe_api_keys(folder, stack)
        rows.append(Row("safe-api-keys, SQLite, cached", calls, "F", peer=True))

    if installed("knox"):
        calls = knox(folder, stack)
        rows.append(Row("django-rest-knox, SQLite", calls, "F", number=1, peer=True))

    if installed("keyshield", "aiocache", "aiosqlite", "argon2", "greenlet"):
        calls = keyshield(folder, stack)
        name = "keyshield, SQLite, cached, its delay off"
        rows.append(Row(name, calls, "F", number=1, peer=True))

    return rows


def flask(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the rows of extensions of Flask, which have no store of their own."""
    del folder, stack
    credential = mint("fg", "tok")
    rows = [Row("Flask", wsgi(flask_app(hello), credential), number=2)]

    if installed("flask_httpauth"):
        calls = flask_httpauth(credential)
        rows.append(Row("Flask-HTTPAuth, dictionary", calls, "Flask", number=2, peer=True))

    if installed("flask_jwt_extended"):
        calls = flask_jwt_extended()
        rows.append(Row("Flask-JWT-Extended, HS256", calls, "Flask", number=2, peer=True))

    return rows


def starlette(folder: Path, stack: ExitStack) -> list[Row]:
    """Return the row of Starlette's own middleware."""
    del folder, stack
    credential = mint("fg", "tok")
    bare = Starlette(routes=[Route("/", view)])

    backend = Backend({digest(credential): (USER, [SCOPE])})
    guarded = Starlette(
        routes=[Route("/", requires(["authenticated", SCOPE])(view))],
        middleware=[Middleware(AuthenticationMiddleware, backend=backend)],
    )

    name = "AuthenticationMiddleware, dictionary"
    return [
        Row("Starlette", asgi(bare, credential)),
        Row(name, asgi(guarded, credential), "Starlette", peer=True),
    ]


class Backend(AuthenticationBackend):
    """Looks up the digest of a bearer credential in a dictionary: the least that a backend can do.

    ``users`` maps digests to the name of a user and their scopes.
    """

    def __init__(self, users: dict[bytes, tuple[str, list[str]]]) -> None:
        self.users = users

    async def authenticate(
        self, conn: HTTPConnection[Any]
    ) -> tuple[AuthCredentials, SimpleUser] | None:
        """Return the credentials and the user of a request, or None."""
        scheme, _, credential = conn.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None

        user = self.users.get(digest(credential))
        if user is None:
            return None

        name, scopes = user
        return AuthCredentials(["authenticated", *scopes]), SimpleUser(name)


def safe_api_keys(folder: Path, stack: ExitStack) -> Calls:
    """Return verifications by safe-api-keys, which records uses once a minute."""
    package = import_module("safe_api_keys")
    store = import_module("safe_api_keys.stores").SQLiteStore(folder / "safe_api_keys.db")
    stack.callback(store.close)

    cache = import_module("safe_api_keys.cache").VerifyCache()
    manager = package.KeyManager(store, prefix="bench", pepper=token_bytes(32), cache=cache)
    credential = manager.issue(USER, scopes=[SCOPE], expires_in=DAY).raw_key

    def calls(number: int) -> None:
        for _ in range(number):
            manager.verify(credential, scopes=[SCOPE], client_ip=ADDRESS)

    return calls


def knox(folder: Path, stack: ExitStack) -> Calls:
    """Return verifications by django-rest-knox, which has neither scopes nor a cache."""
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "knox.db"}
    apps = ["django.contrib.contenttypes", "django.contrib.auth", "knox"]
    import_module("django.conf").settings.configure(
        DATABASES={"default": database}, INSTALLED_APPS=apps, USE_TZ=True
    )

    # Models can be imported only after the setup.
    import_module("django").setup()
    stack.callback(import_module("django.db").connection.close)
    import_module("django.core.management").call_command("migrate", verbosity=0)

    user = import_module("django.contrib.auth.models").User.objects.create_user(USER)
    _, token = import_module("knox.models").AuthToken.objects.create(user, expiry=DAY)
    authentication = import_module("knox.auth").TokenAuthentication()
    credential = token.encode()

    def calls(number: int) -> None:
        for _ in range(number):
            authentication.authenticate_credentials(credential)

    return calls


def keyshield(folder: Path, stack: ExitStack) -> Calls:
    """Return verifications by keyshield, each in a session of its own, as its documentation shows.

    It records each use. It also waits for 0.1 to 0.3 seconds each time, which is turned off here.
    """
    loop = asyncio.new_event_loop()
    stack.callback(loop.close)

    asynchronous = import_module("sqlalchemy.ext.asyncio")
    engine = asynchronous.create_async_engine(f"sqlite+aiosqlite:///{folder / 'keyshield.db'}")
    stack.callback(lambda: loop.run_until_complete(engine.dispose()))
    sessions = asynchronous.async_sessionmaker(engine, expire_on_commit=False)

    repository = import_module("keyshield.repositories.sql").SqlAlchemyApiKeyRepository
    hasher = import_module("keyshield.hasher.argon2").Argon2ApiKeyHasher(pepper=token_hex(32))
    cache = import_module("aiocache").SimpleMemoryCache()
    cached = import_module("keyshield.services.cached").CachedApiKeyService

    def service(session: Any) -> Any:
        return cached(repository(session), hasher, cache, min_delay=0.0, max_delay=0.0)

    async def issue() -> str:
        async with sessions() as session, session.begin():
            await repository(session).ensure_table(engine)
            _, credential = await service(session).create(
                USER, expires_at=datetime.now(UTC) + DAY, scopes=[SCOPE]
            )
        return str(credential)

    async def verify(number: int) -> None:
        for _ in range(number):
            async with sessions() as session, session.begin():
                await service(session).verify_key(credential, [SCOPE])

    credential = loop.run_until_complete(issue())
    return lambda number: loop.run_until_complete(verify(number))


def flask_httpauth(credential: str) -> Calls:
    """Return requests to a view behind Flask-HTTPAuth, with a dictionary of digests."""
    auth = import_module("flask_httpauth").HTTPTokenAuth()
    users = {digest(credential): USER}
    roles = {USER: [SCOPE]}

    def user_of(token: str) -> str | None:
        return users.get(digest(token))

    auth.verify_token(user_of)
    auth.get_user_roles(roles.get)

    app = flask_app()
    app.add_url_rule("/", view_func=auth.login_required(role=SCOPE)(hello))
    return wsgi(app, credential)


def flask_jwt_extended() -> Calls:
    """Return requests to a view behind Flask-JWT-Extended, which has no scopes."""
    package = import_module("flask_jwt_extended")
    app = flask_app()
    app.config |= {"JWT_SECRET_KEY": token_hex(32), "JWT_ACCESS_TOKEN_EXPIRES": DAY}
    package.JWTManager(app)
    app.add_url_rule("/", view_func=package.jwt_required()(hello))

    # The token is made with the application's own key.
    with app.app_context():
        return wsgi(app, package.create_access_token(USER))


def installed(*modules: str) -> bool:
    """Return True if every module can be imported."""
    return all(find_spec(module) for module in modules)


def digest(credential: str) -> bytes:
    """Return the key of a credential in a dictionary."""
    return sha256(credential.encode()).digest()
