"""Reading written tables without Spark, so that no more is held than what is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.dataset as ds

ROWS_A_BATCH = 1 << 14
Row = TypeVar("Row")


def scanner(path: Path, columns: Sequence[str], where: ds.Expression | None = None) -> ds.Scanner:
    """A scan of a Parquet directory that holds few rows at a time, and of them those that `where` takes."""
    dataset = ds.dataset(path, format="parquet")
    return dataset.scanner(
        columns=list(columns), filter=where, batch_size=ROWS_A_BATCH, batch_readahead=2, fragment_readahead=1
    )


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """A table that grows with models and metrics alone, as rows of the dataclass `kind` in a fixed order."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    rows = scanner(path, names).to_table().to_pylist()
    return [kind(**row) for row in sorted(rows, key=lambda row: [str(row[name]) for name in names])]


@dataclass(frozen=True)
class Titles:
    """The items that are shown."""

    indices: Mapping[str, int]
    """Index of each item's id."""
    names: Mapping[int, str]
    """Title of each index; the id where the catalogue has no title."""

    def name(self, index: int) -> str:
        """What an item is called."""
        return self.names.get(index, str(index))


def read_titles(items: Path, ids: Iterable[str], indices: Iterable[int]) -> Titles:
    """Titles of the items with the given ids or indices."""
    where = ds.field("item_id").isin(pa.array(sorted(set(ids)), pa.string()))
    where |= ds.field("item_index").isin(pa.array(sorted(set(indices)), pa.int32()))
    rows = scanner(items, ["item_id", "item_index", "title"], where).to_table().to_pylist()
    return Titles(
        {row["item_id"]: row["item_index"] for row in rows},
        {row["item_index"]: row["title"] or row["item_id"] for row in rows},
    )
