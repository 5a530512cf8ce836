"""The API's routes: what is asked and answered, as OpenAPI tells it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from recsys_spark.config.serving import Serving
from recsys_spark.serving.answers import Answers
from recsys_spark.serving.errors import RefusedError
from recsys_spark.serving.messages import (
    Events,
    EventsTaken,
    Health,
    Id,
    Message,
    Ready,
    Recommendations,
    Session,
    SimilarItems,
    refusals,
)

CONTEXT = """Ids of the items that the user has before them (the page's item, the basket), separated by commas. Those
that the model knows join the history as views, for this answer alone; they are not in the list."""
ALWAYS = (400, 401, 404, 405, 422, 429, 503)
"""Every question may be refused so."""


def api(serving: Serving, answers: Answers) -> APIRouter:
    """The routes below /v1, and those for machines that watch."""
    router = APIRouter()
    limits = serving.limits
    # Not as an annotation: FastAPI reads those as text, and would not find what is local.
    length = Query(None, ge=1, le=limits.k, description="Length of the list; by default that of the published lists.")

    @router.get(
        "/v1/users/{user_id:path}/recommendations",
        tags=["lists"],
        response_model=Recommendations,
        responses=refusals(*ALWAYS),
        summary="A user's list",
    )
    async def of_user(
        user_id: Annotated[Id, Path(examples=["1"])],
        k: int | None = length,
        context: Annotated[str, Query(max_length=20_000, description=CONTEXT, examples=["995242"])] = "",
    ) -> Response:
        """From the store where the list there knows all of the user's events, else made for this answer.

        Of users without history it is what is popular, and `fallback` says so.
        """
        answer = await answers.for_user(user_id, k, context_items(context, limits.context_items))
        return _given(answer.body)

    @router.post(
        "/v1/sessions/recommendations",
        tags=["lists"],
        response_model=Recommendations,
        responses=refusals(*ALWAYS, 408, 413),
        summary="A list for a visitor without an account",
    )
    async def of_session(session: Session) -> Response:
        """Made from the history that is sent; nothing of it is kept."""
        return _given((await answers.for_session(session)).body)

    @router.post(
        "/v1/events",
        tags=["events"],
        response_model=EventsTaken,
        responses=refusals(*ALWAYS, 408, 409, 413),
        summary="What users did",
    )
    async def take(events: Events) -> Response:
        """They count from the next answer on, and go on to the stream. Sent again under their ids they count once."""
        return _json(await answers.take(events))

    @router.get(
        "/v1/items/{item_id:path}/similar",
        tags=["lists"],
        response_model=SimilarItems,
        responses=refusals(*ALWAYS),
        summary="Items that are like one",
    )
    async def similar(item_id: Annotated[Id, Path(examples=["995242"])], k: int | None = length) -> Response:
        """By the cosine of the model's item vectors; what is popular where it does not know the item."""
        return _given(await answers.similar(item_id, k))

    @router.get("/health", tags=["operation"], response_model=Health, summary="Does the process answer")
    async def health() -> Response:
        """Always, as long as the process lives."""
        return _json(Health())

    @router.get(
        "/ready", tags=["operation"], response_model=Ready, responses=refusals(503), summary="Can questions be answered"
    )
    async def ready() -> Response:
        """Once a publication was loaded, while the store answers."""
        champion = answers.champion
        await answers.ping()
        return _json(Ready(model=champion.publication.model, publication=champion.publication.number))

    @router.get(
        "/metrics",
        tags=["operation"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **refusals(401)},
        summary="Numbers for Prometheus",
    )
    async def metrics(request: Request) -> Response:
        """Of this process."""
        return Response(request.app.state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def context_items(context: str, most: int) -> tuple[str, ...]:
    """The items of `context`, each once. Raises RefusedError (422) where there are too many, or one is no id."""
    items = tuple(dict.fromkeys(item.strip() for item in context.split(",") if item.strip()))
    if len(items) > most:
        raise RefusedError(422, f"context: {len(items)} items; at most {most}")
    if any(not item.isprintable() or len(item) > 200 for item in items):
        raise RefusedError(422, "context: holds something that is no item id")
    return items


def _json(message: Message) -> Response:
    return _given(message.model_dump_json().encode())


def _given(body: bytes) -> Response:
    return Response(body, media_type="application/json")
