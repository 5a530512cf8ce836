"""Files that are broken inside, which shows only while Spark reads them: told apart, so that the rest can go on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.sources import Files
from recsys_spark.errors import UserError
from recsys_spark.events.csv_files import DEFAULTS
from recsys_spark.events.parquet_files import scan_parquet, schemas
from recsys_spark.events.raw_files import Broken, RawFile, file_name, package_format
from recsys_spark.events.rows import MAX_LINE
from recsys_spark.events.scans import escaped

FAILED_FILE = re.compile(r"\[FAILED_READ_FILE[^]]*\] (?P<message>Encountered error while reading file (?P<file>\S+).*)")
UNPARSABLE = "univocity.parsers.common.TextParsingException"
"""Where it stands in a trace, a csv line has more fields than the parser takes."""
FILES_A_JOB = 100
JOBS_AT_ONCE = 4


class BrokenFile(UserError):  # noqa: N818  (errors here are named by what happened)
    """A file that cannot be read to its end."""

    def __init__(self, path: str, cause: str, unparsable: bool = False) -> None:
        super().__init__(f"{path}: cannot be read ({cause}); replace it or take it out of the path")
        self.path = path
        """The file, without escapes."""
        self.cause = cause
        """Why, on one line."""
        self.unparsable = unparsable
        """Is it a line that the csv parser does not take."""


@dataclass(frozen=True)
class Checked:
    """What came of reading each file of a source to its end."""

    files: tuple[RawFile, ...]
    """Those that can be read; where a line has to be kept away from the parser, with `long_lines`."""
    broken: tuple[Broken, ...]


@contextmanager
def file_errors() -> Iterator[None]:
    """Around an action on rows of a source: a file that is broken inside is a BrokenFile that names it.

    Spark reads a truncated archive or a second, broken Parquet file only when rows are asked for.
    """
    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        found = broken_file(error)
        if found is None:
            raise
        raise found from None


def broken_file(error: Exception) -> BrokenFile | None:
    """The file that Spark could not read, if that is what the error says."""
    trace = str(error)
    found = FAILED_FILE.search(trace)
    if found is None:
        return None
    # The last cause stands deepest: "Caused by: java.io.EOFException: Unexpected end of input stream".
    causes = [line.strip() for line in trace.splitlines() if line.startswith("Caused by: ")]
    cause = causes[-1].removeprefix("Caused by: ") if causes else found["message"]
    name = unquote(re.sub(r"^file:/+", "/", found["file"].rstrip(".")))
    return BrokenFile(name, cause[:300], UNPARSABLE in trace)


def broken_files(spark: SparkSession, files: Files, raw_files: Sequence[RawFile]) -> tuple[Broken, ...]:
    """As `check_files`, where a file with a line that cannot be parsed counts as broken too."""
    checked = check_files(spark, files, raw_files)
    asked = {file.path for file in raw_files if file.long_lines}
    reason = f"a line has more fields than can be read (it may have up to {MAX_LINE:,} bytes)"
    found = [file for file in checked.files if file.long_lines and file.path not in asked]
    return (*checked.broken, *(Broken(file.name, file.arrival, reason) for file in found))


def check_files(spark: SparkSession, files: Files, raw_files: Sequence[RawFile]) -> Checked:
    """Read every file of a csv, json, parquet or package source to its end, and say which can be read.

    Spark reads a hundred files a job, on any file system that it knows. A job that fails names one file; the others of
    that job are read again in two halves, so that b broken files among n cost about b log(n) small jobs more.
    """
    if files.format == "package":
        files = files.model_copy(update={"format": package_format(raw_files[0].path)})
    broken: dict[str, str] = {}
    long_lines: set[str] = set()
    groups: dict[str, list[RawFile]] = {}
    if files.format == "parquet":
        for file, shape in zip(raw_files, schemas(spark, raw_files), strict=True):
            if isinstance(shape, Broken):
                broken[file.path] = shape.reason
            else:
                groups.setdefault(shape, []).append(file)
    else:
        for file in raw_files:
            groups.setdefault(str(file.long_lines), []).append(file)
    read = _reader(spark, files)
    chunks = [each[at : at + FILES_A_JOB] for each in groups.values() for at in range(0, len(each), FILES_A_JOB)]
    with ThreadPoolExecutor(JOBS_AT_ONCE) as pool:
        for found in pool.map(lambda chunk: _errors(read, chunk), chunks):
            for path, error in found.items():
                if error.unparsable and not _many_lines(files):
                    long_lines.add(path)
                else:
                    broken[path] = f"it cannot be read ({error.cause})"
    return Checked(
        tuple(
            replace(file, long_lines=file.long_lines or file.path in long_lines)
            for file in raw_files
            if file.path not in broken
        ),
        tuple(Broken(file.name, file.arrival, broken[file.path]) for file in raw_files if file.path in broken),
    )


def _errors(read: Callable[[Sequence[RawFile]], DataFrame], files: Sequence[RawFile]) -> dict[str, BrokenFile]:
    """The error of each file that cannot be read, by its path."""
    if not files:
        return {}
    try:
        with file_errors():
            read(files).write.format("noop").mode("overwrite").save()
        return {}
    except BrokenFile as error:
        name = file_name(error.path)
        # Spark's name may have a scheme and host that the path left out.
        named = [file for file in files if file_name(file.path) == name]
        named = named or [file for file in files if name.endswith(f"/{file_name(file.path).lstrip('/')}")]
        if not named:
            raise
        rest = [file for file in files if file is not named[0]]
        half = (len(rest) + 1) // 2
        return {named[0].path: error, **_errors(read, rest[:half]), **_errors(read, rest[half:])}


def _many_lines(files: Files) -> bool:
    options = {key.lower(): str(value).lower() for key, value in files.options.items()}
    return options.get("multiline", "false") == "true"


def _reader(spark: SparkSession, files: Files) -> Callable[[Sequence[RawFile]], DataFrame]:
    """What reads some files wholly, whatever their columns."""
    theirs = {key.lower(): value for key, value in files.options.items() if key.lower() != "basepath"}

    def read(members: Sequence[RawFile]) -> DataFrame:
        paths = [escaped(file.path) for file in members]
        if files.format == "parquet":
            return scan_parquet(spark, paths, theirs)
        if files.format == "csv" and not members[0].long_lines:
            # A schema of one column spares the header; without pruning every field is parsed all the same.
            options = {**DEFAULTS, **theirs, "mode": "PERMISSIVE", "columnpruning": "false", "enforceschema": "true"}
            return spark.read.schema("_c0 string").options(**options).csv(paths)
        return spark.read.text(paths).select(F.octet_length("value"))

    return read
