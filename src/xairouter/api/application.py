"""The management plane as an application, and its OpenAPI document."""

from typing import Any

from fastapi import FastAPI

from xairouter import __version__
from xairouter.api.problems import install
from xairouter.api.routes import router


class _Management(FastAPI):
    """Its document is made when somebody asks for it: most processes are never asked."""

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
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(router)
    install(app)
    return app
