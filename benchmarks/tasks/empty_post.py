"""What an accepted task is compared with: a POST in the same framework that does one committed INSERT and no more."""

from __future__ import annotations

import os

import uvicorn
from fastapi import FastAPI
from sqlalchemy import text

from sicargabox_core.db import Database
from sicargabox_core.settings import load_settings


def serve() -> None:
    """Serves ``POST /`` on the port of the settings."""
    settings = load_settings()
    database = Database.from_settings(settings)
    with database.write() as session:
        session.execute(text("CREATE TABLE IF NOT EXISTS empty_post (id VARCHAR(36) PRIMARY KEY, body TEXT)"))
    app = FastAPI()

    @app.get("/")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    @app.post("/", status_code=202)
    def post(body: dict[str, str]) -> dict[str, str]:
        key = os.urandom(16).hex()
        with database.write() as session:
            session.execute(
                text("INSERT INTO empty_post (id, body) VALUES (:id, :body)"), {"id": key, "body": body["note"]}
            )
        return {"id": key}

    uvicorn.run(app, host="127.0.0.1", port=settings.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    serve()
