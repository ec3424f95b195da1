"""The management plane as an application, and its OpenAPI document."""

import asyncio
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response

from xairouter import __version__
from xairouter.api.problems import install
from xairouter.api.reading import PREFIX
from xairouter.api.routes import ROUTES

DOCUMENT = f"{PREFIX}/openapi.json"


class _Management(FastAPI):
    """Its document is made when somebody asks for it: most processes are never asked. It is written
    down once, by a worker."""

    _document: asyncio.Task[bytes] | None = None

    async def document(self, _: Request) -> Response:
        """The OpenAPI document; the bytes are the same for everybody."""
        if self._document is None:
            made = asyncio.to_thread(lambda: msgspec.json.encode(self.openapi()))
            self._document = asyncio.ensure_future(made)
        written = await asyncio.shield(self._document)
        return Response(written, media_type="application/json")

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            described = super().openapi()
            described["components"]["securitySchemes"] = {
                "xaiApiKey": {"type": "http", "scheme": "bearer", "description": "An XAI API key."}
            }
            described["security"] = [{"xaiApiKey": []}]
            described["paths"]["/api/v1/recover"]["post"]["security"] = []
        return super().openapi()


def management_app() -> FastAPI:
    """The management plane alone, as its OpenAPI document describes it."""
    app = _Management(
        title="XAI Router management API",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.add_route(DOCUMENT, app.document, include_in_schema=False)
    app.router.routes.extend(ROUTES)
    install(app)
    return app
