"""The same document service on Starlette, with documents that are shared by link.

Make the first token, then run the service::

    export FAREGATE_STORE=sqlite:///documents.db
    faregate token create --name first --scope '*'
    uvicorn --app-dir examples starlette_app:app
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from faregate import Gate, path
from faregate_asgi import GateMiddleware
from faregate_starlette import management, requires

if TYPE_CHECKING:
    from starlette.requests import Request

# With query=True a link can carry the secret of a share: /docs/plan?access_token=fg_shr_…
gate = Gate(os.environ.get("FAREGATE_STORE", "sqlite:///documents.db"), query=True)
documents = {"plan": "Open the gate.", "budget": "Twelve."}


async def healthz(_: Request[Any]) -> Response:
    """Answer without a credential: the service runs."""
    return JSONResponse({"status": "ok"})


@requires("docs:read", on=path("doc_id"))
async def read(request: Request[Any]) -> Response:
    """Return a document to the holder of a token that reads, or of a share of the document."""
    doc_id = request.path_params["doc_id"]
    if doc_id not in documents:
        return JSONResponse({"error": "no such document"}, 404)

    content = {"document": doc_id, "text": documents[doc_id], "for": request.user.identity}
    return JSONResponse(content)


@requires("docs:write", on=path("doc_id"))
async def write(request: Request[Any]) -> Response:
    """Store a document."""
    documents[request.path_params["doc_id"]] = (await request.body()).decode(errors="replace")
    return Response(status_code=204)


@requires
async def mine(request: Request[Any]) -> Response:
    """List the documents that the caller may read: all documents, or those of a share."""
    readable = [doc_id for doc_id in documents if request.user.allows("docs:read", on=doc_id)]
    return JSONResponse({"documents": readable})


app = Starlette(
    routes=[
        Route("/healthz", healthz),
        Route("/docs", mine),
        Route("/docs/{doc_id}", read),
        Route("/docs/{doc_id}", write, methods=["PUT"]),
        # POST /auth/shares makes a link, and POST /auth/shares/{id}/revoke ends it.
        Mount("/auth", management(gate)),
    ],
    middleware=[Middleware(GateMiddleware, gate=gate)],
)
