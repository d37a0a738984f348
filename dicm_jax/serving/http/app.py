"""The application: paths of the service, and what they answer."""

import asyncio
import base64
import binascii
import contextlib
import dataclasses
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal, TypeVar

import numpy as np
import pydantic_core
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from dicm_jax.errors import DicmError, RequestError, TooLargeError, UnknownNameError
from dicm_jax.serving.http import schemas
from dicm_jax.serving.http.explorer import Explorer
from dicm_jax.serving.http.limits import Limits
from dicm_jax.serving.http.metrics import CONTENT_TYPE
from dicm_jax.serving.http.service import BusyError, LateError, NotReadyError, Service
from dicm_jax.serving.ranker import Ranker
from dicm_jax.serving.request import NewItem, Query, User

_LONGEST_PART = 80
"""Characters of a key that an answer repeats."""
_LOG = logging.getLogger("dicm_jax.serve")
Body = TypeVar("Body", bound=BaseModel)
Encode = Callable[[bytes], np.ndarray]
"""From the bytes of a photo to its feature row."""

_BODIES = (schemas.RankBody, schemas.PrerankBody, schemas.ItemsBody)
_STATUS: dict[type[Exception], int] = {
    UnknownNameError: 404,
    TooLargeError: 413,
    RequestError: 422,
    BusyError: 429,
    NotReadyError: 503,
    LateError: 503,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of the application.

    Attributes:
      token: that requests must bear; None for none.
      body_bytes: of a request, at most.
      body_s: seconds for a request's body to arrive.
      reload_s: seconds between looks for a newer version; 0 for none.
      encode: makes feature rows of photos; None where there is no encoder.
    """

    token: str | None = None
    body_bytes: int = 8 * 2**20
    body_s: float = 10.0
    reload_s: float = 2.0
    encode: Encode | None = None


def create_app(service: Service, settings: Settings) -> FastAPI:
    """The application over a service.

    Args:
      service: loaded when the application starts.
      settings: limits and tokens.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        begun = asyncio.create_task(_begin(service, settings))
        try:
            yield
        finally:
            begun.cancel()
            service.close()

    app = FastAPIOffline(  # its /docs loads nothing from elsewhere
        title="dicm_jax",
        description="Click probabilities of items for users, from images and IDs.",
        version="1",
        lifespan=lifespan,
        redoc_url=None,
    )
    _add_ranking(app, service, settings)
    _add_watching(app, service)
    Explorer(service).add_to(app)
    _add_errors(app)
    _describe_bodies(app)
    paths = frozenset(getattr(route, "path", "") for route in app.routes)
    app.add_middleware(
        Limits,
        metrics=service.metrics,
        body_bytes=settings.body_bytes,
        body_s=settings.body_s,
        token=settings.token,
        paths=paths,
    )
    return app


async def _begin(service: Service, settings: Settings) -> None:
    """Loads, then looks for newer versions. A first servable that cannot be used ends it all."""
    try:
        await service.start()
    except Exception as error:  # without a servable there is nothing to wait for
        _LOG.error("error: %s", str(error) or repr(error), exc_info=_unforeseen(error))
        os.kill(os.getpid(), signal.SIGTERM)
        return
    _LOG.info("ready: serving %s, %d items", service.ranker.version, service.ranker.items)
    await service.finish()
    if settings.reload_s:
        await service.watch(settings.reload_s)


def _unforeseen(error: Exception) -> Exception | None:
    """The error itself, to be logged with its traceback, if its message was not made for users."""
    return None if isinstance(error, DicmError) else error


def _add_ranking(app: FastAPI, service: Service, settings: Settings) -> None:
    @app.post("/v1/rank", **_described(schemas.RankBody, schemas.RankAnswer))
    async def rank(request: Request) -> Response:
        """Click probabilities of candidates for a user."""
        body = _parsed(schemas.RankBody, await request.body())
        return _json(await service.answer(lambda: ranked(service, body)))

    @app.post("/v1/prerank", **_described(schemas.PrerankBody, schemas.PrerankAnswer))
    async def prerank(request: Request) -> Response:
        """The items whose vectors have the largest inner products with the user's, exactly."""
        body = _parsed(schemas.PrerankBody, await request.body())
        return _json(await service.answer(lambda: _preranked(service, body)))

    @app.post("/v1/items", **_described(schemas.ItemsBody, schemas.ItemsAnswer))
    async def items(request: Request) -> Response:
        """Add new items, which can be ranked from the next request on."""
        body = _parsed(schemas.ItemsBody, await request.body())
        return _json(await service.answer(lambda: _added(service, settings, body)))


def ranked(service: Service, body: schemas.RankBody) -> dict[str, Any]:
    """The answer of ``/v1/rank``."""
    ranker = service.ranker.frozen()  # all of it comes from one servable
    query = Query(user_of(ranker, body.user), body.candidates, body.context)
    found = ranker.rank(
        query.user, query.candidates, query.context, model=body.model, images=body.images
    )
    service.metrics.candidates.inc(len(found.scores))
    weights = ranker.attention(query, model=body.model) if body.explain else None
    return {
        "version": found.version,
        "scores": found.scores.tolist(),
        "ranking": found.order.tolist(),
        "behaviors": found.behaviors,
        "unknown_behaviors": found.unknown_behaviors,
        "attention": weights and {name: array.tolist() for name, array in weights.items()},
    }


def _preranked(service: Service, body: schemas.PrerankBody) -> dict[str, Any]:
    ranker = service.ranker.frozen()
    best = ranker.prerank(user_of(ranker, body.user), body.count)
    names, scores = zip(*best, strict=True) if best else ((), ())
    return {"version": ranker.version, "items": names, "scores": scores}


def _added(service: Service, settings: Settings, body: schemas.ItemsBody) -> dict[str, Any]:
    ranker = service.ranker
    ranker.add_items([new_item(item, settings.encode) for item in body.items])
    service.metrics.items.set(ranker.items)
    return {"version": ranker.version, "added": len(body.items), "items": ranker.items}


def user_of(ranker: Ranker, body: schemas.UserBody) -> User:
    """The user that a request is about.

    Raises:
      RequestError: no such user, or one told in two ways.
    """
    if body.id is None:
        return User(body.fields, body.behaviors)
    if body.fields or body.behaviors:
        raise RequestError(
            f"user {body.id!r} was given by id and by fields or behaviors: give one of the two"
        )
    known = ranker.users
    if body.id not in known:
        raise UnknownNameError(
            f"no user {body.id!r} among the {len(known)} examples of this servable: give his fields"
            " and behaviors instead"
        )
    return known[body.id]


def new_item(body: schemas.ItemBody, encode: Encode | None) -> NewItem:
    """A new item as a request tells it.

    Raises:
      RequestError: a photo that cannot be read, or that there is no encoder for.
    """
    with np.errstate(over="ignore"):  # becomes infinite, which is refused with the item's name
        features = {name: np.asarray(row, np.float32) for name, row in body.features.items()}
    if body.photo is not None:
        if encode is None:
            raise RequestError(
                f"item {body.name!r} comes with a photo, and this service has no image encoder:"
                " send its feature row, or start the service with --vgg16=WEIGHTS"
            )
        features["image"] = encode(_decoded(body))
    return NewItem(body.name, body.fields, features, body.context)


def _decoded(body: schemas.ItemBody) -> bytes:
    try:
        return base64.b64decode(body.photo or "", validate=True)
    except binascii.Error as error:
        raise RequestError(f"item {body.name!r}: its photo is no base64 ({error})") from None


def _add_watching(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_class=Response)
    async def healthz() -> Response:
        """200 while the process lives."""
        return _json({"status": "alive"})

    @app.get("/readyz", response_class=Response, responses=_PROBLEMS)
    async def readyz() -> Response:
        """200 once requests are answered."""
        return _json({"status": "ready", "version": service.ranker.version})

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Counters and histograms for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _parsed(body: type[Body], data: bytes) -> Body:
    return body.model_validate_json(data)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    # Not FastAPI's: it walks through every number in Python.
    made = pydantic_core.to_json(value)
    return Response(made, status, headers=headers, media_type="application/json")


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": schemas.Problem, "description": words}
    for code, words in {
        401: "no token, or another",
        404: "an unknown user, item or field",
        408: "the body came too slowly",
        413: "too much of something",
        422: "malformed, or of wrong types or values",
        429: "too many requests are waiting",
        503: "not ready, or not answered in time",
    }.items()
}


def _described(body: type[BaseModel], answer: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a path whose body is parsed by hand, which is twice as fast."""
    reference = {"$ref": f"#/components/schemas/{body.__name__}"}
    content = {"application/json": {"schema": reference}}
    return {
        "response_class": Response,
        "responses": {200: {"model": answer, "description": "the answer"}} | _PROBLEMS,
        "openapi_extra": {"requestBody": {"required": True, "content": content}},
    }


def _describe_bodies(app: FastAPI) -> None:
    """Puts the bodies that `_described` names among OpenAPI's schemas."""
    made = app.openapi()
    bodies: list[tuple[type[BaseModel], Literal["validation"]]]
    bodies = [(body, "validation") for body in _BODIES]
    _, definitions = models_json_schema(bodies, ref_template="#/components/schemas/{model}")
    made["components"]["schemas"] |= definitions["$defs"]


def _add_errors(app: FastAPI) -> None:
    async def problem(request: Request, error: Exception) -> Response:
        status = _STATUS.get(type(error), 500)
        headers = {"Retry-After": "1"} if status in (429, 503) else None
        return _json({"error": str(error)}, status, headers)

    for kind in _STATUS:
        app.add_exception_handler(kind, problem)

    async def malformed(request: Request, error: Exception) -> Response:
        assert isinstance(error, ValidationError | RequestValidationError)
        return _json({"error": _first_problem(error.errors())}, 422)

    app.add_exception_handler(ValidationError, malformed)
    app.add_exception_handler(RequestValidationError, malformed)

    async def as_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        words = f"{request.method} {request.url.path}: {error.detail}; see /docs"
        return _json({"error": words}, error.status_code, dict(error.headers or {}))

    app.add_exception_handler(HTTPException, as_http)

    async def unexpected(request: Request, error: Exception) -> Response:
        _LOG.exception("an error of the service itself", exc_info=error)
        return _json({"error": "an error of the service itself: see its log"}, 500)

    app.add_exception_handler(Exception, unexpected)


def _first_problem(errors: Any) -> str:
    """What is wrong with a body, without what was sent: that may be anything."""
    first, *others = errors
    # A key may be as long as a body.
    place = ".".join(str(part)[:_LONGEST_PART] for part in first["loc"]) or "the body"
    more = f" (and {len(others)} more)" if others else ""
    return f"{place}: {first['msg']}{more}; see /docs for what is expected"
