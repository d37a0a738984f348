"""The page at ``/`` and what it is made of: users to look at, photos, the model's card."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse

from dicm_jax.errors import UnknownNameError
from dicm_jax.serving import format as files
from dicm_jax.serving.http.service import Service

_PAGE = Path(__file__).parent / "page"
_ASSETS = {
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
    **{
        f"{name}.js": "text/javascript"
        for name in ("page", "service", "candidates", "past", "adding", "elements")
    },
}
PATHS = ("/", *(f"/{name}" for name in _ASSETS))
"""Of the page itself, which holds nothing of a servable: it has to be there to ask for a token."""
_KINDS = {".jpg": "image/jpeg", ".svg": "image/svg+xml"}
_GUARDED = {
    # Its own files only, and copies of photos that needed a token.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; object-src 'none';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked for again, and answered with 304 where nothing changed
}
_PHOTO = {
    # A drawing is shown, and never run, wherever it is opened.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, max-age=3600",
}


class Explorer:
    """Paths for people.

    Args:
      service: whose servable is looked at.
    """

    def __init__(self, service: Service):
        self._service = service

    def add_to(self, app: FastAPI) -> None:
        """Adds the paths to an application."""

        @app.get("/", response_class=HTMLResponse, include_in_schema=False)
        async def page() -> Response:
            return FileResponse(_PAGE / "index.html", media_type="text/html", headers=_GUARDED)

        for name, kind in _ASSETS.items():
            app.get(f"/{name}", include_in_schema=False)(_asset(name, kind))

        @app.get("/v1/model")
        async def model() -> dict[str, Any]:
            """What is served: fields, models, sizes."""
            return self._model()

        @app.get("/v1/card", response_class=PlainTextResponse)
        async def card() -> str:
            """The model card, in Markdown."""
            path = self._service.ranker.servable.folder / files.CARD
            if not path.is_file():
                raise UnknownNameError("the model card is not on disk any more")
            return path.read_text()

        @app.get("/v1/users")
        async def users() -> dict[str, Any]:
            """Users of the data set to look at."""
            return {"users": [_short(user) for user in self._examples()["users"]]}

        @app.get("/v1/users/{user_id}", responses={404: {"description": "no such user"}})
        async def user(user_id: str) -> dict[str, Any]:
            """One of them: fields, behaviors, candidates, what he clicked, what has a photo."""
            for found in self._examples()["users"]:
                if found["id"] == user_id:
                    return found | {"pictured": self._pictured(found)}
            raise UnknownNameError(f"no user {user_id!r}: /v1/users lists them")

        @app.get(
            "/v1/photos/{item:path}",  # a name may hold anything, slashes too
            response_class=Response,
            responses={404: {"description": "no photo of this item"}},
        )
        async def photo(item: str) -> Response:
            """The photo of an item, or a drawing of its content row."""
            # Looked up among what was exported: nothing of the request becomes a path.
            name = self._examples()["photos"].get(item)
            if name is None:
                raise UnknownNameError(f"no photo of item {item!r} in this servable")
            path = self._service.ranker.servable.folder / files.PHOTOS / name
            if not path.is_file():  # the folder of a version may be removed while it is served
                raise UnknownNameError(f"the photo of item {item!r} is not on disk any more")
            return FileResponse(path, media_type=_KINDS[path.suffix], headers=_PHOTO)

    def _examples(self) -> dict[str, Any]:
        return self._service.ranker.examples

    def _pictured(self, user: dict[str, Any]) -> list[str]:
        """Names of the items of a user that have a photo."""
        items = {*user["behaviors"], *user["candidates"]}
        return sorted(items & self._examples()["photos"].keys())

    def _model(self) -> dict[str, Any]:
        ranker = self._service.ranker
        signature = ranker.servable.signature
        return {
            "version": ranker.version,
            "log": signature["log"],
            "made": signature["made"],
            "items": ranker.items,
            "behaviors": signature["behaviors"],
            "fields": [
                {"name": field.name, "level": field.level, "size": field.size}
                for field in ranker.servable.fields
            ],
            "contents": signature["contents"],
            "models": {
                name: {
                    "stage": made["stage"],
                    "images": made["images"],
                    "attention": made["attention"],
                }
                for name, made in signature["models"].items()
            },
        }


def _short(user: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": user["id"],
        "user": user["user"],
        "behaviors": len(user["behaviors"]),
        "candidates": len(user["candidates"]),
    }


def _asset(name: str, kind: str) -> Any:
    async def asset() -> Response:
        return FileResponse(_PAGE / name, media_type=kind, headers=_GUARDED)

    return asset
