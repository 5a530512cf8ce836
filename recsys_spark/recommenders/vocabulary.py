"""The items that a fit knows: code, global index, id and title. Item-sized; a worker holds it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.errors import UserError


class Vocabulary:
    """Codes 0..I-1 of the items that were seen in a fit's folds."""

    def __init__(self, table: pa.Table) -> None:
        self._ids: pa.Array = table["item_id"].combine_chunks()
        self._titles: pa.Array = table["title"].combine_chunks()
        self._indices: npt.NDArray[np.int64] = table["item_index"].to_numpy().astype(np.int64)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read `vocabulary.parquet`, whose rows are ordered by code. Raises UserError where it is no such file."""
        try:
            return cls(pq.read_table(path, columns=["item_id", "title", "item_index"], partitioning=None))
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise UserError(f"{path}: is not readable ({type(error).__name__}); fit the model again") from None

    @property
    def size(self) -> int:
        """Number of items I."""
        return len(self._ids)

    @property
    def indices(self) -> npt.NDArray[np.int64]:
        """[I] the global index of each item, by code."""
        return self._indices

    def item_id(self, code: int) -> str:
        """The id of an item."""
        return str(self._ids[code].as_py())

    def title(self, code: int) -> str:
        """The title of an item, its id where it has none."""
        return str(self._titles[code].as_py())

    def ids_of(self, codes: npt.NDArray[np.int64]) -> pa.Array:
        """Ids of many codes, as an Arrow array of strings."""
        return self._ids.take(pa.array(codes))

    def codes(self, item_ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """Codes of item ids, -1 where an id is unknown."""
        codes = map(self._code_of_id.get, item_ids, repeat(-1))
        return np.fromiter(codes, dtype=np.int64, count=len(item_ids))

    def codes_of_indices(self, indices: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Codes of global item indices, -1 where an index is unknown."""
        lookup = self._code_of_index
        inside = np.minimum(indices, lookup.size - 1)
        return np.where(indices < lookup.size, lookup[inside], -1)

    @cached_property
    def _code_of_id(self) -> dict[str, int]:
        return {item: code for code, item in enumerate(self._ids.to_pylist())}

    @cached_property
    def _code_of_index(self) -> npt.NDArray[np.int64]:
        lookup = np.full(int(self._indices.max(initial=0)) + 1, -1, dtype=np.int64)
        lookup[self._indices] = np.arange(self.size)
        return lookup
