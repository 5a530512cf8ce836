"""What every row of a source carries besides its own columns, whatever it was read from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from zlib import crc32

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    DataType,
    DoubleType,
    FloatType,
    IntegralType,
    MapType,
    NullType,
    StringType,
    StructType,
    VariantType,
)

from recsys_spark.config.sources import Files
from recsys_spark.errors import UserError

CORRUPT = "_corrupt_record"
"""The text of a row that does not fit its file's format, else null."""
WHY = "_why"
"""The reasons against a row as one text, BETWEEN them: Spark takes long to send Python arrays that are
mostly null, the longer the larger its batches are, and does not compile what builds them."""
BETWEEN = "\x1f"
RAW = "_raw_row"
"""The row as text: the corrupt record, or the row's columns as JSON."""
HASH = "_row_hash"
"""64-bit hash of the whole row: equal for exact copies."""
FILE = "_source_file"
"""Path of the file, or the table's name."""
ORDER = "_source_order"
"""bigint that grows along a file."""
ARRIVAL = "_arrival_date"
"""Date on which the row arrived, null where nothing tells."""
BAD_ENCODING = "_bad_encoding"
"""boolean: does an id, a type or an order number hold U+FFFD, which stands for bytes that are no text."""
TOO_LONG = "_line_too_long"
"""boolean: has the row more than MAX_LINE bytes of text."""
MISSING_JOINS = "_missing_joins"
"""array<string>: names of the required joins in which the row has no partner; only where there are required joins."""
INTERNAL = (CORRUPT, RAW, HASH, FILE, ORDER, ARRIVAL, BAD_ENCODING, TOO_LONG, MISSING_JOINS)

MAX_LINE = 1 << 20
"""Bytes of the longest row that counts as a row."""
REPLACEMENT = "\ufffd"
TEXT_COLUMNS = ("user_id", "item_id", "event_type", "order_id")
"""Of our columns those that stay text; in a time or a number U+FFFD shows by itself."""
ROW_BITS = 33
"""Bits of the row's place in its block; the block's place takes the bits above."""
BLOCK_BITS = 12
"""Blocks of a file start at least 2**12 bytes apart."""
COMPLEX = (ArrayType, MapType, StructType, VariantType)


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


def lacking(available: Sequence[str], files: Files, of: Iterable[str] | None = None) -> list[str]:
    """Those of our columns (all that are mapped, or the mapped ones of `of`) that none of the available ones holds."""
    wanted = files.columns if of is None else [name for name in files.columns if name in set(of)]
    return [ours for ours in wanted if find_column(available, files.columns[ours]) is None]


def require_columns(available: Sequence[str], files: Files, where: str, of: Iterable[str] | None = None) -> None:
    """Raise UserError where a mapped column (of `of`) is not among the file's, and say which columns the file has."""
    missing = lacking(available, files, of)
    if missing:
        named = ", ".join(f"{files.columns[ours]!r} (columns.{ours})" for ours in missing)
        raise UserError(f"{where}: no column {named}; the file has {', '.join(available)}")


def with_file_position(frame: DataFrame, indexed: bool = False) -> DataFrame:
    """Add FILE and ORDER; must stand directly on the scan, since the place within a block is counted by the task.

    `indexed`: the format knows each row's number in its file (Parquet). Otherwise ORDER is the block's start above the
    row's number within the task that read the block, which grows along a file however it is cut into tasks.
    """
    if indexed:
        path, order = F.col("_metadata.file_path"), F.col("_metadata.row_index")
    else:
        # What a text scan knows of its block costs a third of the columns of `_metadata`.
        block = F.shiftleft(F.shiftrightunsigned(F.input_file_block_start(), BLOCK_BITS), ROW_BITS)
        order = block.bitwiseOR(F.monotonically_increasing_id().bitwiseAND((1 << ROW_BITS) - 1))
        path = F.input_file_name()
    placed = frame.select("*", path.alias("_path"), order.cast("bigint").alias(ORDER))
    local = F.when(F.col("_path").startswith("file:///"), F.substring("_path", 8, 1 << 20)).when(
        F.col("_path").startswith("file:/"), F.substring("_path", 6, 1 << 20)
    )
    rest = [quoted(name) for name in frame.columns]
    return placed.select(*rest, F.coalesce(local, "_path").alias(FILE), ORDER)


def with_row_text(frame: DataFrame, index: int) -> DataFrame:
    """Add RAW and HASH of all own columns; `index` keeps rows of different sources apart.

    Both depend on the row's own file alone: not on the order of its columns, nor on what other files have.
    """
    columns = own_columns(frame)
    types = {field.name: field.dataType for field in frame.schema}
    raw = F.to_json(F.struct(*[quoted(name) for name in columns]))
    # xxhash64 skips nulls: without a mark for each value, it and the null beside it could change places unseen.
    parts = []
    for name in sorted(columns, key=str.lower):
        mark = F.lit(crc32(name.lower().encode()) - (1 << 31)).cast("int")
        parts += [F.when(quoted(name).isNotNull(), mark), _hashable(name, types[name])]
    if CORRUPT in frame.columns:
        raw = F.coalesce(F.col(CORRUPT), raw)
        parts.append(F.col(CORRUPT))
    return frame.select("*", raw.alias(RAW), F.xxhash64(F.lit(index), *parts).alias(HASH))


def with_text_checks(frame: DataFrame, files: Files) -> DataFrame:
    """Add BAD_ENCODING, of the mapped TEXT_COLUMNS, and TOO_LONG where it is not there."""
    types = {field.name: field.dataType for field in frame.schema}
    own = own_columns(frame)
    texts = [name for name in own if isinstance(types[name], StringType)]
    mapped = {find_column(own, files.columns[ours]) for ours in TEXT_COLUMNS if ours in files.columns}
    marked = [
        F.coalesce(F.contains(quoted(name), F.lit(REPLACEMENT)), F.lit(False)) for name in texts if name in mapped
    ]
    bad = reduce(lambda left, right: left | right, marked, F.lit(False))
    if TOO_LONG in frame.columns:
        return frame.withColumn(BAD_ENCODING, bad)
    measured = [*map(quoted, texts), *([F.col(CORRUPT)] if CORRUPT in frame.columns else [])]
    lengths = [F.coalesce(F.octet_length(column), F.lit(0)) for column in measured]
    length = reduce(lambda left, right: left + right, lengths, F.lit(0))
    return frame.select("*", bad.alias(BAD_ENCODING), (length > MAX_LINE).alias(TOO_LONG))


def united(frames: Sequence[DataFrame]) -> DataFrame:
    """The rows of all frames, by name; a column that a frame lacks is null in its rows.

    Where types differ, whole numbers become bigint, numbers with a fraction double, and all else text, a double
    without a fraction as a whole number. An int among doubles becomes text too, since a double does not hold every id.
    """
    types: dict[str, list[DataType]] = {}
    for frame in frames:
        for field in frame.schema:
            types.setdefault(field.name.lower(), []).append(field.dataType)
    cast = [
        frame.select(*[_as_common(field.name, field.dataType, types[field.name.lower()]) for field in frame.schema])
        for frame in frames
    ]
    return reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), cast)


def _as_common(name: str, type_: DataType, types: Sequence[DataType]) -> Column:
    known = [other for other in types if not isinstance(other, NullType)]
    column = quoted(name)
    if all(other == known[0] for other in known):
        return column.cast(known[0]).alias(name) if known and type_ != known[0] else column
    for family, common in ((IntegralType, "bigint"), ((FloatType, DoubleType), "double")):
        if all(isinstance(other, family) for other in known):
            return column.cast(common).alias(name)
    if isinstance(type_, COMPLEX):
        return F.to_json(F.when(column.isNotNull(), F.struct(column))).alias(name)
    if isinstance(type_, (FloatType, DoubleType)):
        whole = column.try_cast("bigint")
        text = F.when(whole == column, whole.cast("string")).otherwise(column.cast("string"))
        return F.when(~F.isnan(column), text).alias(name)
    return column.cast("string").alias(name)


def _hashable(name: str, type_: DataType) -> Column:
    return F.to_json(F.struct(quoted(name))) if isinstance(type_, COMPLEX) else quoted(name)
