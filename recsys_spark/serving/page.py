"""The page for people: a user's history and list with reasons and shares, and what an event changes.

Rendered here, without a build step; a small script sends events and puts the new panel in place of the old one. Where
the service has API keys, the page itself tells nothing: the panel is asked for with the key that the visitor types in.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Annotated

import jinja2
import pyarrow.dataset as ds
from fastapi import FastAPI, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from recsys_spark.config.serving import Serving
from recsys_spark.fusion.model import FALLBACK
from recsys_spark.online.history import moment
from recsys_spark.online.store import StoredEvent, UserState
from recsys_spark.serving.answers import Answers
from recsys_spark.serving.champion import Champion
from recsys_spark.serving.errors import NotReadyError
from recsys_spark.serving.messages import Id, Item, Recommendations
from recsys_spark.tables.pointer import latest_commit

HERE = FilePath(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
SHOWN_EVENTS = 12
"""The newest events of a history that are shown."""
FRESH_SECONDS = 7 * 86400.0
"""Data that ends longer ago is a demonstration: events are dated right behind its end, not years after it."""
MINUS = "\N{MINUS SIGN}"
LEAST_SHARE = 0.005
"""Smaller shares are not worth a word."""


@dataclass(frozen=True)
class Piece:
    """A component's piece of a bar, in per cent of its length."""

    name: str
    colour: int
    start: float
    width: float
    negative: bool


@dataclass(frozen=True)
class Card:
    """An item of the list as it is shown."""

    item: Item
    pieces: tuple[Piece, ...]

    @property
    def shares(self) -> str:
        """The bar in words, the largest share first."""
        told = sorted(self.pieces, key=lambda piece: -piece.width)
        return ", ".join(f"{piece.name} {MINUS if piece.negative else ''}{piece.width:.0f} %" for piece in told)


@dataclass(frozen=True)
class Past:
    """An event of the history as it is shown."""

    title: str
    item_id: str
    kind: str
    when: str


@dataclass(frozen=True)
class Panel:
    """What is shown of a user."""

    user_id: str
    answer: Recommendations
    cards: tuple[Card, ...]
    past: tuple[Past, ...]
    legend: tuple[tuple[str, int], ...]
    """Component and number of its colour."""
    event_time: str
    """ISO 8601 at which the page dates its events; empty for now."""
    data_end: str
    """The day on which the data ends, where that is long ago."""


def add_page(app: FastAPI, serving: Serving, answers: Answers, workspace: FilePath, keyed: bool) -> None:
    """Add the page, its panel and its files to the app; `keyed` where questions need an API key."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    users: list[str] = []

    @app.get("/", include_in_schema=False)
    async def whole(user: Annotated[Id | None, Query()] = None, new: bool = False) -> Response:
        if new:
            return RedirectResponse(f"/?user=visitor-{secrets.token_hex(4)}", 303)
        if not users and not keyed:
            users[:] = await asyncio.to_thread(offered_users, workspace, serving.page_users)
        shown, ready = None, True
        try:
            shown = await panel(answers, user) if user is not None and not keyed else None
        except NotReadyError:
            ready = False
        page = templates.get_template("page.html").render(
            panel=shown, user=user or "", users=users, keyed=keyed, ready=ready
        )
        return HTMLResponse(page, headers=HEADERS)

    @app.get("/page/panel", include_in_schema=False)
    async def part(user: Annotated[Id, Query()]) -> Response:
        shown = await panel(answers, user)
        return HTMLResponse(templates.get_template("panel.html").render(panel=shown), headers=HEADERS)

    app.mount("/static", StaticFiles(directory=HERE / "static"))


async def panel(answers: Answers, user_id: str) -> Panel:
    """What is shown of a user."""
    champion = answers.champion
    rendered, state = await asyncio.gather(answers.for_user(user_id, None), answers.state(user_id))
    answer = Recommendations.model_validate_json(rendered.body)
    named = {name for item in answer.items for name in item.components}
    everyone = sorted({*champion.live.champion.recommenders, FALLBACK, *named})  # so that colours stay, list to list
    colours = {name: place for place, name in enumerate(everyone)}
    at = moment(state, champion.publication.as_of)
    old = time.time() - at > FRESH_SECONDS
    return Panel(
        user_id=user_id,
        answer=answer,
        cards=tuple(Card(item, pieces(item, colours)) for item in answer.items),
        past=past(champion, state),
        legend=tuple((name, place) for name, place in colours.items() if name in named),
        event_time=datetime.fromtimestamp(at + 60, UTC).isoformat() if old else "",
        data_end=f"{datetime.fromtimestamp(champion.publication.as_of, UTC):%d %B %Y}" if old else "",
    )


def pieces(item: Item, colours: dict[str, int]) -> tuple[Piece, ...]:
    """The components' shares of an item's score by their size, those that count for nothing left out."""
    whole = sum(abs(part) for part in item.components.values())
    made, start = [], 0.0
    for name, part in sorted(item.components.items(), key=lambda each: colours[each[0]]):
        share = abs(part) / whole if whole else 0.0
        if share >= LEAST_SHARE:
            made.append(Piece(name, colours[name], round(start, 2), round(100 * share, 2), part < 0))
        start += 100 * share
    return tuple(made)


def past(champion: Champion, state: UserState) -> tuple[Past, ...]:
    """The newest events, the newest first."""
    newest: Sequence[StoredEvent] = state.history[-SHOWN_EVENTS:][::-1]
    return tuple(
        Past(
            title=champion.live.title(event.item_id),
            item_id=event.item_id,
            kind=event.event_type.replace("_", " "),
            when=f"{datetime.fromtimestamp(event.event_time, UTC):%d %b %Y, %H:%M}",
        )
        for event in newest
    )


def offered_users(workspace: FilePath, most: int) -> list[str]:
    """Some users with a history, in the order in which they are stored; none where no histories are there."""
    stage = "build_datasets"
    commit = latest_commit(workspace / "stages" / stage, stage)
    if commit is None or not commit.path("histories").is_dir():
        return []
    table = ds.dataset(commit.path("histories"), format="parquet").head(most, columns=["user_id"])
    return [str(user) for user in table["user_id"].to_pylist()]
