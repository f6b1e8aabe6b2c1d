"""The gate in front of WSGI applications that do not know it: a Django project, and a function.

Make the first token, then run either application::

    export FAREGATE_STORE=sqlite:///documents.db
    faregate token create --name first --scope docs:read
    gunicorn --chdir examples wsgi_app:django
    gunicorn --chdir examples wsgi_app:plain
"""

# Django has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportArgumentType=false

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from faregate import PUBLIC, Gate
from faregate_wsgi import GateMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from faregate.rules import Demand

gate = Gate(os.environ.get("FAREGATE_STORE", "sqlite:///documents.db"))

# A path that ends in a slash is a prefix, and the longest match decides. Other paths are closed.
rules: dict[str, Demand] = {
    "/healthz": PUBLIC,
    "/docs/": "docs:read",
    "/docs/drafts/": ["docs:read", "docs:drafts"],
}

# A Django project in a single file. A larger project wraps the application in its wsgi.py.
settings.configure(
    SECRET_KEY="this example signs nothing",  # noqa: S106
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
)


def healthz(_: HttpRequest) -> JsonResponse:
    """Answer without a credential: the service runs."""
    return JsonResponse({"status": "ok"})


def document(request: HttpRequest, doc_id: str) -> JsonResponse:
    """Return a document.

    The gate sets REMOTE_USER. Django's RemoteUserMiddleware can log that user in.
    """
    return JsonResponse({"document": doc_id, "for": request.META["REMOTE_USER"]})


urlpatterns = [path("healthz", healthz), path("docs/<path:doc_id>", document)]

django = GateMiddleware(get_wsgi_application(), gate=gate, rules=rules)


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Return the path and the caller's identity; the identity is null on a public path."""
    principal = environ["faregate.principal"]
    identity = principal and principal.identity

    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"path": environ["PATH_INFO"], "for": identity}).encode()]


plain = GateMiddleware(hello, gate=gate, rules=rules)
