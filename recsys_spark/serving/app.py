"""The service as an ASGI app: its parts put together, what runs beside the requests, and how refusals look."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from recsys_spark.config import Config
from recsys_spark.errors import UserError
from recsys_spark.online.opening import online_folder
from recsys_spark.online.store import OnlineStore, Publication, StoreError
from recsys_spark.serving.answers import Answers, Parts
from recsys_spark.serving.batching import ListMaker
from recsys_spark.serving.champion import Champions
from recsys_spark.serving.errors import NotReadyError, OverloadedError, RefusedError
from recsys_spark.serving.event_files import EventFiles
from recsys_spark.serving.gate import Gate
from recsys_spark.serving.keys import ApiKeys
from recsys_spark.serving.metrics import Metrics
from recsys_spark.serving.page import add_page
from recsys_spark.serving.routes import api

TITLE = "Recommendations"
ABOUT = """Lists of items for users and visitors, with reasons; events change them at once.

Where the service has API keys, one is given in the header `X-API-Key` (or `Authorization: Bearer`)."""
COME_BACK = {"Retry-After": "1"}
logger = logging.getLogger("recsys_spark")


def create_app(config: Config, store: OnlineStore, keys: ApiKeys, champions: Champions | None = None) -> Gate:
    """The app over a store, which it closes at its end. Raises UserError where it cannot be run as configured."""
    serving, online = config.serving, online_folder(config)
    files = EventFiles(config.stream, online) if config.stream.format == "json" else None
    limits = serving.limits
    parts = Parts(
        store=store,
        champions=champions or Champions(store, serving.refresh_seconds),
        maker=ListMaker(serving.threads, serving.batch_size, limits.waiting, serving.torch_threads),
        pool=ThreadPoolExecutor(serving.store_threads, "store"),
        files=files,
        metrics=Metrics(),
    )
    answers = Answers(serving, parts)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.create_task(_watch(parts, answers, serving.poll_seconds))
        try:
            yield
        finally:
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch
            parts.maker.close()
            parts.pool.shutdown(wait=True, cancel_futures=True)
            store.close()

    app = FastAPI(title=TITLE, description=ABOUT, version="1", lifespan=lifespan, redoc_url=None)
    app.state.metrics = parts.metrics
    app.include_router(api(serving, answers))
    if serving.page:
        add_page(app, serving, answers, online.parent, keyed=bool(keys))
    _add_refusals(app)
    return Gate(app, serving, keys, parts.metrics)


def set_apart() -> None:
    """Leave all that is here now out of the collections of garbage to come; what only waited for one goes first.

    A full collection walks over every object, and a catalogue with its model are hundreds of thousands that stay:
    no question is answered for a quarter of a second, every few seconds.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


async def _watch(parts: Parts, answers: Answers, seconds: float) -> None:
    """Look for a new champion, again and again; it is loaded in a thread while the one before answers.

    The one before goes at the next look: until then a question asked before the switch may still have it in hand.
    """
    loop, told, switched = asyncio.get_running_loop(), "", False
    with ThreadPoolExecutor(1, "champion") as pool:
        while True:
            try:
                if switched:
                    set_apart()
                    switched = False
                began, before = time.perf_counter(), _publication(parts.champions)
                champion = await loop.run_in_executor(pool, parts.champions.newer)
                if champion is not None:
                    answers.switch(champion)
                    switched, told = before != champion.publication, ""
                    publication = champion.publication
                    parts.metrics.loads.labels("done").inc()
                    parts.metrics.publication.set(publication.number)
                    parts.metrics.published.set(publication.as_of)
                    parts.metrics.parameters.set(champion.parameters)
                    took = time.perf_counter() - began
                    logger.info(
                        "publication %d with model %s answers (%.1f s)", publication.number, publication.model, took
                    )
            except Exception as error:
                parts.metrics.loads.labels("failed").inc()
                if str(error) != told:
                    told = str(error)
                    logger.error("a new publication cannot be served: %s", told, exc_info=not _expected(error))
            await asyncio.sleep(seconds)


def _publication(champions: Champions) -> Publication | None:
    """Not the champion itself: whoever has that in hand keeps its model from going with the garbage."""
    return None if champions.current is None else champions.current.publication


def _expected(error: Exception) -> bool:
    return isinstance(error, UserError | StoreError)


def _add_refusals(app: FastAPI) -> None:
    """Every refusal is `{"detail": "one sentence"}`."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return JSONResponse({"detail": "the body is no JSON"}, 400)
        where = ".".join(str(part) for part in first["loc"])
        return JSONResponse({"detail": f"{where}: {first['msg'].removeprefix('Value error, ')}"}, 422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"detail": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        return JSONResponse({"detail": error.detail}, error.status)

    @app.exception_handler(NotReadyError)
    async def not_ready(request: Request, error: NotReadyError) -> Response:
        return JSONResponse({"detail": "nothing is published yet, or it is being loaded"}, 503, COME_BACK)

    @app.exception_handler(OverloadedError)
    async def overloaded(request: Request, error: OverloadedError) -> Response:
        return JSONResponse({"detail": "too many lists wait already"}, 503, COME_BACK)

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return JSONResponse({"detail": "the service failed; its log says why"}, 500)

    @app.exception_handler(StoreError)
    @app.exception_handler(OSError)
    async def no_store(request: Request, error: Exception) -> Response:
        logger.error("the store or the stream's folder does not answer: %s", error)
        return JSONResponse({"detail": "the store does not answer"}, 503, COME_BACK)
