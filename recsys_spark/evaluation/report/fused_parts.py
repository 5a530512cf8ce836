"""What was fused, and how, from the settings as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recsys_spark.evaluation.report.parts import number
from recsys_spark.reporting.html import Html, details, quiet, table, text

Settings = Mapping[str, Any]


def fusion_parts(settings: Settings) -> Iterator[str]:
    """The components, those of each segment of users, who retrieves, and whatever else the settings say."""
    if settings.get("components"):
        yield _components(settings["components"], "Components, chosen on the valid window")
    for segment, components in _groups(settings):
        yield _components(components, f"Components for {segment}")
    for sentence in _sentences(settings):
        yield quiet(sentence)
    told = ("method", "components", "segments", "cascade", "stack")
    rest = {key: value for key, value in settings.items() if key not in told}
    if rest:
        yield details("Further settings", [f"<pre>{text(json.dumps(rest, indent=1, sort_keys=True))}</pre>"])


def _groups(settings: Settings) -> Iterator[tuple[str, Sequence[Settings]]]:
    segments = settings.get("segments")
    if segments:
        who = {
            "new": f"new users (fewer than {segments['light']} events)",
            "light": f"light users (fewer than {segments['heavy']} events)",
            "heavy": f"heavy users ({segments['heavy']} events or more)",
        }
        for name, components in segments["components"].items():
            yield who.get(name, name), components


def _sentences(settings: Settings) -> Iterator[str]:
    cascade, stack = settings.get("cascade"), settings.get("stack")
    if cascade:
        names = ", ".join(cascade["retrieve"])
        yield f"Candidates are the best {cascade['candidates']:,} items, and as many unseen ones, of each of {names}."
    if stack:
        yield f"Boosted trees rank the best {stack['candidates']:,} items, and as many unseen ones, of each component."


def _components(components: Sequence[Settings], caption: str) -> Html:
    names = list(dict.fromkeys(key for entry in components for key in entry))
    rows = [[_plain(entry.get(key)) for key in names] for entry in components]
    return table(names, rows, caption=caption, row_heads=True)


def _plain(value: Any) -> str:
    return number(value) if isinstance(value, float) else "" if value is None else str(value)
