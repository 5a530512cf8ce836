"""What every row of a source carries besides its own columns, whatever it was read from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, MapType, StructType, VariantType

from recsys_spark.config.sections import Files
from recsys_spark.errors import UserError

CORRUPT = "_corrupt_record"
"""The text of a row that does not fit its file's format, else null."""
RAW = "_raw_row"
"""The row as text: the corrupt record, or the row's columns as JSON."""
HASH = "_row_hash"
"""64-bit hash of the whole row: equal for exact copies."""
FILE = "_source_file"
"""Path of the file, or the table's name."""
ORDER = "_source_order"
"""bigint that grows along a file."""
INTERNAL = (CORRUPT, RAW, HASH, FILE, ORDER)

ROW_BITS = 33
"""Bits of the row's place in its block; the block's place takes the bits above."""
BLOCK_BITS = 12
"""Blocks of a file start at least 2**12 bytes apart."""


def quoted(name: str) -> Column:
    """The column of that very name, dots and spaces included."""
    return F.col("`" + name.replace("`", "``") + "`")


def own_columns(frame: DataFrame) -> list[str]:
    """The columns that the file itself has."""
    return [name for name in frame.columns if name not in INTERNAL]


def refuse_internal(columns: Iterable[str], where: str) -> None:
    """Raise UserError where the file has a column of a name that is used here."""
    taken = [name for name in columns if name.strip().lower() in INTERNAL]
    if taken:
        raise UserError(f"{where}: a column is named {taken[0]!r}, which is used here; rename it in the file")


def find_column(available: Iterable[str], wanted: str) -> str | None:
    """The available column that `wanted` names: the same spelling, else the same but for letter case and blanks."""
    names = list(available)
    if wanted in names:
        return wanted
    return next((name for name in names if name.strip().lower() == wanted.strip().lower()), None)


def require_columns(available: Sequence[str], files: Files, where: str) -> None:
    """Raise UserError where a mapped column is not among the file's, and say which columns the file has."""
    for ours, theirs in files.columns.items():
        if find_column(available, theirs) is None:
            has = ", ".join(available)
            raise UserError(f"{where}: no column {theirs!r} (columns.{ours}); the file has {has}")


def with_file_position(frame: DataFrame, indexed: bool = False) -> DataFrame:
    """Add FILE and ORDER; must stand directly on the scan, since the place within a block is counted by the task.

    `indexed`: the format knows each row's number in its file (Parquet). Otherwise ORDER is the block's start above the
    row's number within the task that read the block, which grows along a file however it is cut into tasks.
    """
    path = F.col("_metadata.file_path")
    local = F.when(path.startswith("file:///"), F.substring(path, 8, 1 << 20)).when(
        path.startswith("file:/"), F.substring(path, 6, 1 << 20)
    )
    if indexed:
        order = F.col("_metadata.row_index")
    else:
        block = F.shiftleft(F.shiftrightunsigned(F.col("_metadata.file_block_start"), BLOCK_BITS), ROW_BITS)
        order = block.bitwiseOR(F.monotonically_increasing_id().bitwiseAND((1 << ROW_BITS) - 1))
    return frame.select("*", F.coalesce(local, path).alias(FILE), order.cast("bigint").alias(ORDER))


def with_row_text(frame: DataFrame, index: int) -> DataFrame:
    """Add RAW and HASH of all own columns; `index` keeps rows of different sources apart."""
    columns = own_columns(frame)
    types = {field.name: field.dataType for field in frame.schema}
    raw = F.to_json(F.struct(*[quoted(name) for name in columns]))
    # xxhash64 skips nulls: without their nullness, a value and the null beside it could change places unseen.
    parts = [part for name in columns for part in (_hashable(name, types[name]), quoted(name).isNull())]
    if CORRUPT in frame.columns:
        raw = F.coalesce(F.col(CORRUPT), raw)
        parts.append(F.col(CORRUPT))
    return frame.select("*", raw.alias(RAW), F.xxhash64(F.lit(index), *parts).alias(HASH))


def _hashable(name: str, type_: DataType) -> Column:
    complex_ = isinstance(type_, (ArrayType, MapType, StructType, VariantType))
    return F.to_json(F.struct(quoted(name))) if complex_ else quoted(name)
