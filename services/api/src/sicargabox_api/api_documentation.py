"""The API's documentation page: Swagger UI from a packaged wheel, so that a browser asks nobody but us.

FastAPI's own page loads its scripts from a content delivery network, which a shop without internet cannot, and runs
an inline script, which the page's policy forbids.
"""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

# Swagger UI writes style attributes; everything else is our own files.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SicargaBox API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# No validatorUrl: its badge would ask another host about our address.
_SCRIPT = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout",
});
"""


def add_documentation(app: FastAPI, path: str) -> None:
    """Serves the page at ``path``, whose neighbour ``openapi.json`` it shows."""

    async def page(_request: Request) -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    async def script(_request: Request) -> Response:
        return Response(_SCRIPT, media_type="text/javascript")

    app.add_route(path, page, include_in_schema=False)
    app.add_route(f"{path}/start.js", script, include_in_schema=False)
    assets = Path(fastapi_offline.__file__).with_name("static")
    app.mount(f"{path}/assets", StaticFiles(directory=assets), name="documentation")
