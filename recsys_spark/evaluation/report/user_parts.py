"""What the page shows of one sampled user."""

from __future__ import annotations

from collections.abc import Sequence

from recsys_spark.evaluation.report.content import FUSED, WITH_RULES, Bought, Listed, SampledUser
from recsys_spark.evaluation.report.parts import number
from recsys_spark.reporting.html import Html, bullets, details, table, text

SHOWN_LETTERS, SHOWN_BOUGHT = 80, 20
EXPLAINED = {FUSED: "The fused list", WITH_RULES: "The fused list under the business rules"}


def user_details(user: SampledUser) -> Html:
    """A closed block: the history, what was bought in the test window, the fused list, each recommender's list."""
    found = sum(entry.rank is not None for entry in user.bought)
    summary = (
        f"{user.user_id}: {user.events:,} events before; bought in the test window: {len(user.bought):,}, "
        f"of them in the fused list: {found:,}"
    )
    body = [_history(user), _bought(user.bought)]
    body += [_explained(title, user.lists[name]) for name, title in EXPLAINED.items() if name in user.lists]
    body += [_single(name, rows) for name, rows in user.lists.items() if name not in EXPLAINED]
    return details(summary, body)


def cut(title: str) -> str:
    """A title of a catalogue that may hold whole descriptions."""
    return title if len(title) <= SHOWN_LETTERS else f"{title[: SHOWN_LETTERS - 1]}…"


def _history(user: SampledUser) -> Html:
    rows = [(past.day, cut(past.title), past.event_type, f"{past.times:,}") for past in user.history]
    return table(("day", "item", "event", "times"), rows, 3, caption="The last items before the test window")


def _bought(bought: Sequence[Bought]) -> Html:
    entries = [
        Html(
            f"{text(cut(entry.title))}{_tag('repeat') if entry.repeat else ''}"
            f"{_tag(f'place {entry.rank} of the fused list') if entry.rank is not None else ''}"
        )
        for entry in bought[:SHOWN_BOUGHT]
    ]
    more = [f"and {len(bought) - SHOWN_BOUGHT:,} more"] if len(bought) > SHOWN_BOUGHT else []
    return Html(f"<p><b>Bought in the test window</b></p>{bullets([*entries, *more])}")


def _explained(title: str, rows: Sequence[Listed]) -> Html:
    if not rows:
        return Html(f"<p><b>{text(title)}</b>: none</p>")
    body = [(f"{row.rank}", _item(row), number(row.score), row.reason) for row in rows]
    return table(("place", "item", "score", "because"), body, caption=title)


def _single(name: str, rows: Sequence[Listed]) -> Html:
    hits = sum(row.bought for row in rows)
    entries = "".join(f"<li>{_item(row)} <small>{number(row.score)}</small></li>" for row in rows)
    return details(f"{name}: {hits} of {len(rows)} bought" if rows else f"{name}: no list", [f"<ol>{entries}</ol>"])


def _item(row: Listed) -> Html:
    title = text(cut(row.title))
    shown = f"<mark>{title}</mark>{_tag('bought')}" if row.bought else title
    return Html(f"{shown}{_tag('repeat')}" if row.repeat else shown)


def _tag(word: str) -> str:
    return f' <span class="tag">[{text(word)}]</span>'
