"""The gate before applications that know nothing of it: a Django project, and a plain WSGI function.

Run either with ``FAREGATE_STORE=sqlite:///documents.db gunicorn --chdir examples wsgi_app:django`` (or
``wsgi_app:plain``), and make the first token with ``faregate token create --name first --scope docs:read``.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportArgumentType=false
# Django has no types of its own.

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
rules: dict[str, Demand] = {
    "/healthz": PUBLIC,
    "/docs/": "docs:read",
    "/docs/drafts/": ["docs:read", "docs:drafts"],
}

# A Django project in one file; of a larger one, wrap the application in its wsgi.py.
settings.configure(
    SECRET_KEY="of this example, which signs nothing",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],  # noqa: S106
)


def healthz(_: HttpRequest) -> JsonResponse:
    """Tell that the service runs."""
    return JsonResponse({"status": "ok"})


def document(request: HttpRequest, doc_id: str) -> JsonResponse:
    """Show a document. Django's own RemoteUserMiddleware would take REMOTE_USER for the user."""
    return JsonResponse({"document": doc_id, "for": request.META["REMOTE_USER"]})


urlpatterns = [path("healthz", healthz), path("docs/<path:doc_id>", document)]

django = GateMiddleware(get_wsgi_application(), gate=gate, rules=rules)


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Tell who asks, if anybody had to say so."""
    start_response("200 OK", [("Content-Type", "application/json")])
    principal = environ["faregate.principal"]
    return [
        json.dumps({"path": environ["PATH_INFO"], "for": principal and principal.identity}).encode()
    ]


plain = GateMiddleware(hello, gate=gate, rules=rules)
