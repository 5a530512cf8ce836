"""A workspace with a small evaluation in it, written without Spark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.evaluation.report.users import Sources

DAY = 86_400
TITLES = {"ale": "Ale", "bread": "Rye <b>bread</b>", "cheese": "Cheese", "dates": None}
"""Items 1, 2, 3, 4; the last has no title."""
INDICES = {item: number + 1 for number, item in enumerate(TITLES)}
VIEW, PURCHASE = 1, 4
TRAIN, VALID, TEST = 0, 1, 2
Event = tuple[str, int, int, int]
"""Item, type, day, fold."""
ANNA: list[Event] = [
    ("ale", PURCHASE, 0, TRAIN),
    ("cheese", VIEW, 5, TRAIN),
    ("ale", PURCHASE, 10, TRAIN),
    ("ale", PURCHASE, 20, VALID),
    ("bread", PURCHASE, 31, TEST),
    ("ale", PURCHASE, 31, TEST),
    ("dates", VIEW, 32, TEST),
]
HISTORIES: dict[str, list[Event]] = {
    "anna": ANNA,
    "only viewed in the test window": [("ale", PURCHASE, 0, TRAIN), ("ale", VIEW, 31, TEST)],
    "new in the test window": [("ale", PURCHASE, 31, TEST)],
    "gone before": [("ale", PURCHASE, 0, TRAIN)],
    "bert": [("dates", PURCHASE, 0, VALID), ("dates", PURCHASE, 31, TEST)],
}
NOW = 30 * DAY
TYPES: dict[str, pa.DataType] = {
    "user_index": pa.int32(),
    "item_index": pa.int32(),
    "items": pa.list_(pa.int32()),
    "event_types": pa.list_(pa.int32()),
    "weights": pa.list_(pa.float32()),
    "times": pa.list_(pa.int64()),
    "folds": pa.list_(pa.int32()),
    "rank": pa.int32(),
    "k": pa.int32(),
    "score": pa.float32(),
    **{name: pa.float64() for name in ("value", "low", "high", "difference", "p_value")},
    "users": pa.int64(),
}


def write_table(directory: Path, columns: list[str], rows: list[Mapping[str, Any]]) -> None:
    directory.mkdir(parents=True)
    schema = pa.schema([(name, TYPES.get(name, pa.string())) for name in columns])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), directory / "part-0.parquet")


def write_histories(directory: Path, histories: Mapping[str, list[Event]]) -> None:
    rows = [
        {
            "user_index": number + 1,
            "user_id": user,
            "items": [INDICES[item] for item, _, _, _ in events],
            "event_types": [kind for _, kind, _, _ in events],
            "weights": [1.0] * len(events),
            "times": [day * DAY for _, _, day, _ in events],
            "folds": [fold for _, _, _, fold in events],
        }
        for number, (user, events) in enumerate(histories.items())
    ]
    columns = ["user_index", "user_id", "items", "event_types", "weights", "times", "folds"]
    write_table(directory, columns, rows)


def write_items(directory: Path) -> None:
    rows = [{"item_index": INDICES[item], "item_id": item, "title": title} for item, title in TITLES.items()]
    write_table(directory, ["item_index", "item_id", "title"], rows)


def write_lists(directory: Path, lists: Mapping[tuple[str, str, str], list[str]]) -> None:
    """(model, mode, user) to the items of the list, whose scores are 10, 9, 8, ..."""
    rows = [
        {"model": model, "repeats": mode, "user_id": user, "rank": place + 1, "item_id": item, "score": 10.0 - place}
        for (model, mode, user), items in lists.items()
        for place, item in enumerate(items)
    ]
    write_table(directory, ["model", "repeats", "user_id", "rank", "item_id", "score"], rows)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    """Anna's lists: of the fusion and of popularity with repeats, and of the fusion without."""
    write_histories(tmp_path / "histories", HISTORIES)
    write_items(tmp_path / "items")
    lists = {
        ("fused", "allow", "anna"): ["ale", "dates", "bread"],
        ("popularity", "allow", "anna"): ["cheese"],
        ("fused", "drop", "anna"): ["dates"],
        ("fused", "allow", "bert"): ["dates"],
    }
    write_lists(tmp_path / "lists", lists)
    return Sources(tmp_path / "histories", tmp_path / "items", tmp_path / "lists", ("purchase",), "allow")
