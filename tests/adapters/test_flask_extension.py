"""The Flask extension: where guards stand, what views see, and what applications may do with a denial."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import pytest
from conftest import Clock
from flask import Blueprint, Flask, Response, redirect
from flask.views import MethodView
from flask_smorest import Api
from flask_smorest import Blueprint as SmorestBlueprint
from werkzeug.exceptions import Forbidden, HTTPException, Unauthorized

from faregate import Denied, InvalidInput, Misconfigured, Permission, path
from faregate_flask import Faregate, current_principal


class Setup:
    """An application, its extension, and a reader's credential."""

    def __init__(self, **config: Any) -> None:
        self.app = Flask(__name__)
        self.app.config.update({"FAREGATE_STORE": "sqlite://", "TESTING": False, **config})
        self.faregate = Faregate(self.app)
        self.secret = self.faregate.gate.tokens.create(name="reader", scopes=["docs:read"]).secret

    def get(self, url: str, secret: str | None = None, **options: Any) -> Any:
        """The answer to a GET, with the reader's credential unless another is given."""
        headers = {"Authorization": f"Bearer {secret or self.secret}"} if secret != "" else {}
        return self.app.test_client().open(url, headers=headers, **options)


@pytest.fixture
def setup() -> Iterator[Setup]:
    """A fresh application."""
    made = Setup()
    yield made
    made.faregate.gate.close()


def view() -> dict[str, str]:
    """A view that tells for whom it runs."""
    return {"for": current_principal.identity}


def test_bare_guard_asks_for_any_credential(setup: Setup) -> None:
    """With and without parentheses."""
    setup.app.add_url_rule("/a", "a", setup.faregate.requires(view))
    setup.app.add_url_rule("/b", "b", setup.faregate.requires()(view))
    for url in ("/a", "/b"):
        assert setup.get(url).status_code == 200
        assert setup.get(url, "").status_code == 401


def test_the_path_of_a_route_names_the_object(setup: Setup) -> None:
    """The parameter as the view gets it, converted and compared as text."""
    allowed = {
        "organizationScopes": {"permissions": [{"permissionId": "edit", "resources": ["7"]}]}
    }
    secret = setup.faregate.gate.tokens.create(name="t", allowed_scopes=allowed).secret  # type: ignore[arg-type]

    @setup.app.get("/edit/<int:number>")
    @setup.faregate.requires(Permission("edit"), on=path("number"))
    def edit(number: int) -> dict[str, int]:
        return {"number": number}

    @setup.app.get("/fixed")
    @setup.faregate.requires(Permission("edit"), on=7)
    def fixed() -> dict[str, int]:
        return {"number": 7}

    assert setup.get("/edit/7", secret).get_json() == {"number": 7}
    assert setup.get("/edit/007", secret).status_code == 200
    assert setup.get("/edit/8", secret).status_code == 403
    assert setup.get("/fixed", secret).status_code == 200


def test_a_parameter_that_the_route_lacks_is_an_error_not_a_pass(setup: Setup) -> None:
    """500 at the first request, even for root."""
    setup.app.add_url_rule(
        "/x/<other>",
        "x",
        setup.faregate.requires("docs:read", on=path("doc_id"))(lambda other: other),
    )
    root = setup.faregate.gate.tokens.create(name="root", scopes=["*"]).secret
    assert setup.get("/x/1").status_code == 500
    assert setup.get("/x/1", root).status_code == 500
    setup.app.testing = True
    with pytest.raises(Misconfigured, match="doc_id"):
        setup.get("/x/1")


def test_a_guard_above_the_route_decorator_is_caught(setup: Setup) -> None:
    """It would guard nothing: the route answers 500, never the view."""

    @setup.faregate.requires("docs:write")
    @setup.app.get("/naked")
    def naked() -> str:
        return "secret"

    answer = setup.get("/naked", "")
    assert answer.status_code == 500
    assert b"secret" not in answer.data
    setup.app.testing = True
    with pytest.raises(Misconfigured, match="above the route decorator"):
        setup.get("/naked", "")


def test_a_guard_above_another_decorator_and_the_route_is_caught(setup: Setup) -> None:
    """However many wrappers lie between."""

    def decorated(inner: Callable[[], str]) -> Callable[[], str]:
        return wraps(inner)(lambda: inner().upper())

    @setup.faregate.requires("docs:write")
    @decorated
    @setup.app.get("/naked")
    def naked() -> str:
        return "secret"

    assert setup.get("/naked", "").status_code == 500


def test_an_outer_guard_above_the_route_is_caught_above_an_inner_one(setup: Setup) -> None:
    """The stricter guard would be lost in silence; two guards under the route both count."""

    @setup.faregate.requires("docs:write")
    @setup.app.get("/mixed")
    @setup.faregate.requires
    def mixed() -> str:
        return "secret"

    @setup.app.get("/both")
    @setup.faregate.requires
    @setup.faregate.requires("docs:write")
    def both() -> str:
        return "secret"

    assert (setup.get("/mixed").status_code, setup.get("/both").status_code) == (500, 403)


@pytest.mark.parametrize("how", ["update", "pairs", "named", "setdefault", "joined"])
def test_a_guard_above_a_view_that_is_put_in_by_hand_is_caught(setup: Setup, how: str) -> None:
    """In every way in which a dictionary takes something, before the guard is made and after it."""

    def early() -> str:
        return "secret"

    def late() -> str:
        return "secret"

    setup.faregate.requires("docs:write")(early)
    for name, naked in (("early", early), ("late", late)):
        setup.app.add_url_rule(f"/{name}", name)
        views = setup.app.view_functions
        match how:
            case "update":
                views.update({name: naked})
            case "pairs":
                views.update([(name, naked)])
            case "named":
                views.update(**{name: naked})
            case "setdefault":
                assert views.setdefault(name, naked) is views[name]
                assert views.setdefault(name, view) is views[name]
            case _:
                setup.app.view_functions |= {name: naked}
    setup.faregate.requires("docs:write")(late)
    assert [setup.get(url, "").status_code for url in ("/early", "/late")] == [500, 500]


def test_a_guard_above_two_routes_is_caught_at_both(setup: Setup) -> None:
    """A guard above two route decorators is detected, although Flask knows the view twice."""

    def naked() -> str:
        return "secret"

    setup.app.add_url_rule("/one", view_func=naked)
    setup.faregate.requires("docs:write")(naked)
    setup.app.add_url_rule("/two", view_func=naked)
    with pytest.raises(AssertionError, match="overwriting"):
        setup.app.add_url_rule("/three", "naked", view)
    assert [setup.get(url, "").status_code for url in ("/one", "/two")] == [500, 500]


def test_a_guard_of_a_method_above_its_route_is_caught(setup: Setup) -> None:
    """A bound method is another object each time that it is named."""

    class Views:
        def naked(self) -> str:
            return "secret"

    views = Views()
    setup.app.add_url_rule("/naked", "naked", views.naked)
    setup.faregate.requires("docs:write")(views.naked)
    assert setup.get("/naked", "").status_code == 500


def test_guards_of_two_extensions_are_caught(setup: Setup) -> None:
    """Both watch the one application."""
    other = Faregate(setup.app)
    for number, extension in enumerate((setup.faregate, other)):

        def naked() -> str:
            return "secret"

        setup.app.add_url_rule(f"/{number}", str(number), naked)
        extension.requires("docs:write")(naked)
    assert [setup.get(url, "").status_code for url in ("/0", "/1")] == [500, 500]
    other.gate.close()


def test_a_view_that_cannot_be_hashed_is_served(setup: Setup) -> None:
    """With and without a guard."""

    class Unhashable:
        __hash__ = None  # type: ignore[assignment]
        __name__ = "unhashable"

        def __call__(self) -> str:
            return "x"

    setup.app.add_url_rule("/open", "open", Unhashable())
    setup.app.add_url_rule("/a", "a", setup.faregate.requires(Unhashable()))
    assert (setup.get("/open", "").status_code, setup.get("/a", "").status_code) == (200, 401)


def test_guards_stand_in_class_views_and_blueprints(setup: Setup) -> None:
    """Method views take the guard as a decorator; a blueprint's routes are guarded alike."""

    class Document(MethodView):
        decorators = [setup.faregate.requires("docs:read")]  # noqa: RUF012  Flask's own way

        def get(self) -> str:
            return current_principal.id

    blueprint = Blueprint("b", __name__)

    @blueprint.get("/inner")
    @setup.faregate.requires("docs:read")
    def inner() -> str:
        return current_principal.id

    setup.app.add_url_rule("/document", view_func=Document.as_view("document"))
    setup.app.register_blueprint(blueprint, url_prefix="/b")
    for url in ("/document", "/b/inner"):
        assert setup.get(url).status_code == 200
        assert setup.get(url, "").status_code == 401
        assert setup.get(url, "", method="HEAD").status_code == 401


def test_options_runs_no_view(setup: Setup) -> None:
    """Flask answers a preflight itself; the view does not run, and nothing of it leaks."""
    setup.app.add_url_rule("/a", "a", setup.faregate.requires(view))
    answer = setup.get("/a", "", method="OPTIONS")
    assert (answer.status_code, answer.data) == (200, b"")


def test_principals_do_not_pass_from_request_to_request(setup: Setup) -> None:
    """Not even inside one pushed application context, where flask.g is shared."""
    other = setup.faregate.gate.tokens.create(name="other").secret
    setup.app.add_url_rule("/a", "a", setup.faregate.requires(view))
    setup.app.add_url_rule("/open", "open", lambda: {"bound": bool(current_principal)})
    with setup.app.app_context():
        first = setup.get("/a").get_json()
        assert setup.get("/a", other).get_json() != first
        assert setup.get("/a", "").status_code == 401
        assert setup.get("/open").get_json() == {"bound": False}


def test_without_a_guard_there_is_no_principal(setup: Setup) -> None:
    """Asking for it is a mistake with a message."""
    setup.app.add_url_rule("/open", "open", view)
    setup.app.testing = True
    with pytest.raises(Misconfigured, match="requires"):
        setup.get("/open")


def test_views_may_ask_for_more(setup: Setup) -> None:
    """A Denied that a view raises is answered as its guard would answer."""

    @setup.app.get("/a")
    @setup.faregate.requires
    def more() -> str:
        assert not current_principal.allows("docs:write")
        current_principal.require("docs:write")
        return "never"

    answer = setup.get("/a")
    assert answer.status_code == 403
    assert answer.get_json()["code"] == "insufficient_scope"
    assert answer.headers["WWW-Authenticate"].endswith('scope="docs:write"')


def test_handlers_of_the_application_see_denials(setup: Setup) -> None:
    """They are HTTPExceptions of their status, and carry the denial."""
    seen: list[Denied] = []

    def answer(error: Any) -> tuple[str, int]:
        seen.append(error.denied)
        return "mine", error.code

    setup.app.register_error_handler(401, answer)
    setup.app.register_error_handler(Forbidden, answer)
    setup.app.add_url_rule("/a", "a", setup.faregate.requires("docs:write")(view))

    @setup.app.get("/b")
    @setup.faregate.requires
    def b() -> str:
        current_principal.require("docs:write")
        return "never"

    assert (setup.get("/a", "").data, setup.get("/a").data, setup.get("/b").data) == (
        b"mine",
        b"mine",
        b"mine",
    )
    assert [denied.reason for denied in seen] == [
        "missing_credential",
        "insufficient_scope",
        "insufficient_scope",
    ]


def test_refusals_are_werkzeugs_exceptions(setup: Setup) -> None:
    """A handler for HTTPException, Unauthorized or Forbidden is chosen by class."""
    classes: list[type] = []

    def note(error: HTTPException) -> Response:
        classes.extend(one for one in (Unauthorized, Forbidden) if isinstance(error, one))
        return error.get_response()  # type: ignore[return-value]

    setup.app.register_error_handler(HTTPException, note)
    setup.app.add_url_rule("/a", "a", setup.faregate.requires("docs:write")(view))
    assert setup.get("/a", "").headers["WWW-Authenticate"] == 'Bearer realm="faregate"'
    assert setup.get("/a").status_code == 403
    assert classes == [Unauthorized, Forbidden]


@pytest.mark.parametrize("key", [401, Unauthorized, HTTPException], ids=str)
def test_a_refusal_keeps_its_challenge(setup: Setup, key: Any) -> None:
    """RFC 9110 section 15.5.2: whatever body a handler of the application makes, what it leaves away is added."""

    def rebuild(error: Any) -> tuple[dict[str, str], int]:
        return {"error": "no"}, error.code

    setup.app.register_error_handler(key, rebuild)
    setup.app.add_url_rule("/a", "a", setup.faregate.requires("docs:write")(view))

    @setup.app.get("/late")
    def late() -> str:
        raise Denied("unknown_credential")

    for url, challenge in (
        ("/a", 'Bearer realm="faregate"'),
        ("/late", 'Bearer realm="faregate", error="invalid_token"'),
    ):
        answer = setup.get(url, "")
        assert (answer.status_code, answer.get_json()) == (401, {"error": "no"})
        assert answer.headers.get_all("WWW-Authenticate")[0].startswith(challenge)
        assert answer.headers.get_all("Cache-Control") == ["no-store"]
        assert answer.headers.get_all("Content-Type") == ["application/json"]


@pytest.mark.parametrize("key", [403, HTTPException, Denied, None], ids=str)
@pytest.mark.parametrize("where", ["application", "blueprint"])
def test_one_denial_has_one_body_whoever_refuses(setup: Setup, key: Any, where: str) -> None:
    """The guard, or the view behind it: a handler for the status, for HTTPException or for Denied itself sees both."""

    def own(error: Any) -> tuple[list[str], int]:
        denied = error if isinstance(error, Denied) else error.denied
        return [denied.reason], denied.status

    @setup.faregate.requires
    def late() -> None:
        current_principal.require("docs:write")

    @setup.faregate.requires
    async def late_coroutine() -> None:
        current_principal.require("docs:write")

    place: Any = setup.app if where == "application" else Blueprint("place", __name__)
    if key:
        place.register_error_handler(key, own)
    for number, behind in enumerate(
        [setup.faregate.requires("docs:write")(view), late, late_coroutine]
    ):
        place.add_url_rule(f"/{number}", f"view{number}", behind)
    if where == "blueprint":
        setup.app.register_blueprint(place)
    answers = [setup.get(f"/{number}") for number in range(3)]
    for answer in answers:
        assert (answer.status_code, answer.get_json()) == (403, answers[0].get_json())
        assert (answer.get_json() == ["insufficient_scope"]) == bool(key)
        assert answer.headers["WWW-Authenticate"].startswith(
            'Bearer realm="faregate", error="insufficient_scope"'
        )
        assert answer.headers.get_all("Cache-Control") == ["no-store"]


def test_a_handler_that_answers_something_else_is_left_alone(setup: Setup) -> None:
    """A page to log in, say: nothing of a refusal is added to it. What a handler says itself, stays."""
    setup.app.register_error_handler(401, lambda _: redirect("/login"))
    setup.app.register_error_handler(403, lambda _: ("no", 403, {"Cache-Control": "no-cache"}))
    setup.app.add_url_rule("/a", "a", setup.faregate.requires("docs:write")(view))
    answer = setup.get("/a", "")
    assert (answer.status_code, "WWW-Authenticate" in answer.headers) == (302, False)
    answer = setup.get("/a")
    assert answer.headers.get_all("Cache-Control") == ["no-cache"]
    assert "insufficient_scope" in answer.headers["WWW-Authenticate"]


def test_an_extension_that_rebuilds_refusals_keeps_the_challenge(setup: Setup) -> None:
    """flask-smorest has a handler for every HTTPException, which makes a body of its own form."""
    setup.app.config.update(API_TITLE="t", API_VERSION="1", OPENAPI_VERSION="3.1.0")
    blueprint = SmorestBlueprint("docs", "docs", url_prefix="/api")

    @blueprint.route("/a")
    class Docs(MethodView):
        @setup.faregate.requires("docs:write")
        def get(self) -> dict[str, str]:
            return view()

    Api(setup.app).register_blueprint(blueprint)
    answer = setup.get("/api/a", "")
    assert (answer.status_code, answer.get_json()["status"]) == (401, "Unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="faregate"'
    assert answer.headers["Cache-Control"] == "no-store"
    assert 'scope="docs:write"' in setup.get("/api/a").headers["WWW-Authenticate"]


@pytest.mark.parametrize("status", [402, 409, 429, 499])
def test_a_denial_may_have_another_status(setup: Setup, status: int) -> None:
    """A denial keeps the status that the application sets, and has no challenge."""

    @setup.app.get("/a")
    def throttled() -> str:
        denied = Denied("insufficient_scope", "Come back later.")
        denied.status, denied.error = status, None
        raise denied

    answer = setup.get("/a")
    assert (answer.status_code, answer.get_json()["detail"]) == (status, "Come back later.")
    assert "WWW-Authenticate" not in answer.headers


def test_each_denial_is_one_record_of_the_log(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    """Reason, record, address and route; before the view, in it, and in the management API."""
    caplog.set_level(logging.DEBUG, "faregate")
    setup.app.register_blueprint(setup.faregate.management(), url_prefix="/auth")

    @setup.app.get("/a")
    @setup.faregate.requires
    def a() -> str:
        current_principal.require("docs:write")
        return "never"

    token_id = setup.faregate.gate.tokens.list().items[0].id
    for url, secret, words in (
        ("/a", "", "reason=missing_credential record=- address='127.0.0.1' route='GET /a'"),
        (
            "/a",
            None,
            f"reason=insufficient_scope record={token_id} address='127.0.0.1' route='GET /a'",
        ),
        (
            "/auth/tokens",
            "",
            "reason=missing_credential record=- address='127.0.0.1' route='GET /auth/tokens'",
        ),
        (
            "/auth/tokens",
            None,
            f"reason=insufficient_scope record={token_id} address='127.0.0.1' route='GET /auth/tokens'",
        ),
    ):
        caplog.clear()
        setup.get(url, secret)
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("INFO", f"denied: {words}")
        ]


def test_a_denial_that_was_logged_is_not_logged_again(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    """A view that verifies by itself leaves one record."""
    caplog.set_level(logging.INFO, "faregate")

    @setup.app.get("/a")
    def a() -> str:
        return setup.faregate.gate.verify("junk").id

    assert setup.get("/a").status_code == 401
    assert len(caplog.records) == 1


def test_words_of_a_view_do_not_reach_the_challenge(setup: Setup) -> None:
    """A detail of the application's own is told in the body; the header keeps to its characters."""
    words = 'say "hi"\r\nX: y \u00e9'

    @setup.app.get("/a")
    def a() -> str:
        raise Denied("expired", words)

    answer = setup.get("/a")
    assert (answer.status_code, answer.get_json()["detail"]) == (401, words)
    assert answer.headers["WWW-Authenticate"].endswith(
        'error_description="The credential has expired."'
    )


def test_a_path_forges_no_line_of_the_log(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the route as it was registered, not the path of the client."""
    caplog.set_level(logging.INFO, "faregate")
    setup.app.add_url_rule("/a/<x>", "a", setup.faregate.requires(lambda x: x))
    setup.get("/a/b%0Adenied:%20reason=none%E2%80%AE", "")
    (record,) = caplog.records
    assert (
        record.getMessage()
        == "denied: reason=missing_credential record=- address='127.0.0.1' route='GET /a/<x>'"
    )


def test_a_store_that_cannot_answer_is_503(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never 401, never open; with Retry-After and without a challenge."""
    setup.app.add_url_rule("/a", "a", setup.faregate.requires(view))
    setup.app.register_blueprint(setup.faregate.management(), url_prefix="/auth")
    setup.faregate.gate.close()

    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(setup.faregate.gate._records, "_look_at_files", fail)
    for url in ("/a", "/auth/tokens"):
        answer = setup.get(url)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert "WWW-Authenticate" not in answer.headers
        assert answer.get_json()["code"] == "store_unavailable"


def test_an_error_of_ours_opens_nothing(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks inside is a 500, and the view does not run."""
    ran: list[str] = []

    def run() -> str:
        ran.append("view")
        return "x"

    setup.app.add_url_rule("/a", "a", setup.faregate.requires(run))

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(setup.faregate.gate._verifier, "verify", fail)
    assert setup.get("/a").status_code == 500
    assert ran == []


def test_one_extension_serves_several_applications() -> None:
    """Each has its own gate; a credential of one opens nothing in the other."""
    faregate = Faregate()
    apps = [Flask(f"app{number}") for number in range(2)]
    for app in apps:
        app.config["FAREGATE_STORE"] = "sqlite://"
        faregate.init_app(app)
        app.add_url_rule("/a", "a", faregate.requires(view))
    with pytest.raises(Misconfigured, match="Which gate"):
        _ = faregate.gate
    with apps[0].app_context():
        secret = faregate.gate.tokens.create(name="t").secret
        assert faregate.gate is apps[0].extensions["faregate"]
    answers = [
        app.test_client().get("/a", headers={"Authorization": f"Bearer {secret}"}).status_code
        for app in apps
    ]
    assert answers == [200, 401]
    assert "app" not in vars(faregate)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({}, "FAREGATE_STORE"),
        ({"FAREGATE_STORE": "sqlite://", "FAREGATE_TRUSTED_PROXYS": []}, "FAREGATE_TRUSTED_PROXYS"),
        ({"FAREGATE_STORE": "sqlite://", "FAREGATE_TRUSTED_PROXIES": ["*"]}, "trusted_proxies"),
        ({"FAREGATE_STORE": "postgresql://x/y"}, "not supported yet"),
        ({"FAREGATE_STORE": "gate.db"}, "sqlite:///gate.db"),
        ({"FAREGATE_STORE": 5}, "store"),
        ({"FAREGATE_STORE": "sqlite://", "FAREGATE_QUERY": "False"}, "query"),
        ({"FAREGATE_STORE": "sqlite://", "FAREGATE_HEADER": 5}, "header"),
        ({"FAREGATE_STORE": "sqlite://", "FAREGATE_COOKIE": 5}, "cookie"),
        ({"FAREGATE_STORE": "sqlite://", "FAREGATE_ORIGINS": [5]}, "origins"),
        ({"FAREGATE_STORE": "sqlite://", "FAREGATE_ORIGINS": None}, "origins"),
        ({"FAREGATE_STORE": "sqlite://", "FAREGATE_CLOCK": 5}, "clock"),
        (
            {"FAREGATE_STORE": "sqlite://", "FAREGATE_TRUSTED_PROXIES": iter(["10.0.0.0/8"])},
            "trusted_proxies",
        ),
    ],
)
def test_settings_that_cannot_be_stop_the_application(config: dict[str, Any], word: str) -> None:
    """A misspelt or unsafe setting is not kept in silence."""
    app = Flask(__name__)
    app.config.update(config)
    with pytest.raises(InvalidInput, match=word):
        Faregate(app)


@pytest.mark.parametrize("needs", [("docs:*",), ("",), (5,), (None,), ("a", "b c")])
def test_needs_are_checked_when_the_guard_is_made(setup: Setup, needs: tuple[Any, ...]) -> None:
    """A guard that could never be right does not wait for a request to say so."""
    with pytest.raises(InvalidInput):
        setup.faregate.requires(*needs)
    with pytest.raises(InvalidInput, match="on="):
        setup.faregate.requires(on="x")


def test_cache_control_of_the_view_stays() -> None:
    """A credential in the query makes an answer private, unless the view said otherwise."""
    setup = Setup(FAREGATE_QUERY=True, FAREGATE_CLOCK=Clock())

    @setup.app.get("/own")
    @setup.faregate.requires
    def own() -> Response:
        return Response("x", headers={"Cache-Control": "no-store"})

    setup.app.add_url_rule("/a", "a", setup.faregate.requires(view))
    client = setup.app.test_client()
    assert client.get(f"/own?access_token={setup.secret}").headers["Cache-Control"] == "no-store"
    assert client.get(f"/a?access_token={setup.secret}").headers["Cache-Control"] == "private"
    assert "Cache-Control" not in setup.get("/a").headers


def test_the_body_is_not_touched_to_find_a_credential(setup: Setup) -> None:
    """A form is no place for a credential, and stays unread for the view."""

    @setup.app.post("/a")
    @setup.faregate.requires
    def a() -> str:
        return "never"

    answer = setup.app.test_client().post("/a", data={"access_token": setup.secret})
    assert answer.status_code == 401
