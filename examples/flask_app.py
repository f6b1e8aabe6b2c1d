"""A small document service behind the gate.

Run it with ``FAREGATE_STORE=sqlite:///documents.db flask --app examples/flask_app.py run``, and make the first
token with ``faregate token create --name first --scope '*'``.
"""

from __future__ import annotations

import os

from flask import Flask, Response, abort, request

from faregate import path
from faregate_flask import Faregate, current_principal

faregate = Faregate()


def create_app(store: str | None = None) -> Flask:
    """Return the application, its tokens in ``store`` or in what ``FAREGATE_STORE`` names."""
    app = Flask(__name__)
    app.config["FAREGATE_STORE"] = store or os.environ.get(
        "FAREGATE_STORE", "sqlite:///documents.db"
    )
    faregate.init_app(app)
    app.register_blueprint(faregate.management(), url_prefix="/auth")
    documents = {"plan": "Open the gate."}

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

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
