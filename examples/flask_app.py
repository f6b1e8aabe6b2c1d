"""A small document service on Flask, behind the gate.

Make the first token, then run the service::

    export FAREGATE_STORE=sqlite:///documents.db
    faregate token create --name first --scope '*'
    flask --app examples/flask_app.py run
"""

from __future__ import annotations

import os

from flask import Flask, Response, abort, request

from faregate import path
from faregate_flask import Faregate, current_principal

faregate = Faregate()


def create_app(store: str | None = None) -> Flask:
    """Return the application.

    ``store`` is the URL of the database of tokens, by default that in ``FAREGATE_STORE``.
    """
    store = store or os.environ.get("FAREGATE_STORE", "sqlite:///documents.db")
    app = Flask(__name__)
    app.config["FAREGATE_STORE"] = store
    faregate.init_app(app)

    # Tokens and shares are managed over HTTP below /auth.
    app.register_blueprint(faregate.management(), url_prefix="/auth")

    documents = {"plan": "Open the gate."}

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    # The guard stands below the route. Above it, the guard would protect nothing.
    @app.get("/docs/<doc_id>")
    @faregate.requires("docs:read", on=path("doc_id"))
    def read(doc_id: str) -> dict[str, str]:
        if doc_id not in documents:
            abort(404)
        return {"document": doc_id, "text": documents[doc_id], "for": current_principal.identity}

    @app.put("/docs/<doc_id>")
    @faregate.requires("docs:write", on=path("doc_id"))
    def write(doc_id: str) -> Response:
        documents[doc_id] = request.get_data(as_text=True)
        return Response(status=204)

    return app
