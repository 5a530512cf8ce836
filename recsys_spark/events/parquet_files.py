"""Parquet files, read by what each file's own footer says."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from recsys_spark.config.sources import Files
from recsys_spark.events.raw_files import Broken, Check, NothingReadable, Raw, RawFile, java_message
from recsys_spark.events.rows import FILE, quoted, refuse_internal, with_file_position, with_row_text
from recsys_spark.events.scans import Scan, rows_of_scans, scans, with_arrival

NANOSECONDS = "spark.sql.legacy.parquet.nanosAsLong"
"""Spark refuses Parquet timestamps in nanoseconds, which pandas writes, unless told to read them as bigint."""
CHECKSUMS = "parquet.page.verify-checksum.enabled"
"""Compare each page with the checksum that its writer left, if it did: else a flipped bit may be another value."""
SPARK_SCHEMA = "org.apache.spark.sql.parquet.row.metadata"


def read_parquet(
    spark: SparkSession, files: Files, where: str, index: int, check: Check, raw_files: Sequence[RawFile], whole: bool
) -> Raw:
    """All rows with columns of the files' own types and the internal columns; a file without a footer is broken.

    Files are grouped by their schema, and the groups are united by name as `rows.united` says: Spark would read all by
    the schema of one, and stop at the first that has another type. Raises UserError as `rows_of_scans` does.
    """
    shapes = schemas(spark, raw_files)
    broken = tuple(shape for shape in shapes if isinstance(shape, Broken))
    fit = [(file, shape) for file, shape in zip(raw_files, shapes, strict=True) if not isinstance(shape, Broken)]
    if not fit:
        raise NothingReadable(f"{where}: {broken[0].name}: {broken[0].reason}; check path and format", broken)

    def read(scan: Scan) -> DataFrame:
        base = {"basePath": scan.base} if scan.base else {}
        frame = scan_parquet(spark, list(scan.paths), {**files.options, **base})
        refuse_internal(frame.columns, scan.members[0].name)
        frame = with_file_position(frame, indexed=True)
        return with_row_text(with_arrival(_valid_text(frame), files, scan.members), index)

    grouped = scans(spark, files, [file for file, _ in fit], [shape for _, shape in fit], whole and not broken)
    raw = rows_of_scans(grouped, files, where, check, whole, read)
    return Raw(raw.frame, broken + raw.broken, raw.text)


def scan_parquet(spark: SparkSession, paths: list[str], options: dict[str, str]) -> DataFrame:
    """The rows of files of one schema."""
    spark.conf.set(NANOSECONDS, "true")
    return spark.read.options(**{CHECKSUMS: "true", **options}).parquet(*paths)


def schemas(spark: SparkSession, raw_files: Sequence[RawFile]) -> list[str | Broken]:
    """Each file's schema as text that is equal for equal schemas, or why it cannot be read."""
    jvm: Any = spark._jvm
    hadoop: Any = spark.sparkContext._jsc.hadoopConfiguration()

    def schema(file: RawFile) -> str | Broken:
        try:
            location = jvm.org.apache.hadoop.fs.Path(file.path)
            opened = jvm.org.apache.parquet.hadoop.util.HadoopInputFile.fromPath(location, hadoop)
            reader = jvm.org.apache.parquet.hadoop.ParquetFileReader.open(opened)
            try:
                meta = reader.getFooter().getFileMetaData()
                return f"{meta.getSchema().toString()}{meta.getKeyValueMetaData().get(SPARK_SCHEMA)}"
            finally:
                reader.close()
        except Py4JJavaError as error:
            return Broken(file.name, file.arrival, f"it cannot be read as parquet ({java_message(error)})")

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(schema, raw_files))


def _valid_text(frame: DataFrame) -> DataFrame:
    """Text without bytes that are no UTF-8, at which readers of what is written from it would stop."""
    texts = {field.name for field in frame.schema if isinstance(field.dataType, StringType)} - {FILE}
    valid = [F.make_valid_utf8(quoted(name)).alias(name) if name in texts else quoted(name) for name in frame.columns]
    return frame.select(*valid)
