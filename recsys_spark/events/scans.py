"""How files of one shape are read by one scan, and the scans' rows united."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark.config.sources import Files
from recsys_spark.errors import UserError
from recsys_spark.events.raw_files import Broken, Check, NothingReadable, Raw, RawFile, file_name
from recsys_spark.events.rows import (
    ARRIVAL,
    FILE,
    lacking,
    own_columns,
    quoted,
    refuse_internal,
    require_columns,
    united,
)

PATTERN = re.compile(r"[\[\]{}*?\\]")
"""What Hadoop takes for parts of a pattern in a path."""
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Scan:
    """Files of one shape that Spark reads at once."""

    shape: Any
    members: tuple[RawFile, ...]
    paths: tuple[str, ...]
    """As Spark takes them: patterns are patterns."""
    base: str | None
    """The folder below which folders `name=value` add columns, where Spark has to be told."""


def scans(
    spark: SparkSession, files: Files, raw_files: Sequence[RawFile], shapes: Sequence[Hashable], whole: bool
) -> list[Scan]:
    """Group the files by shape; `whole` says that they are all that the configured paths mean."""
    roots = [value for key, value in files.options.items() if key.lower() == "basepath"] or list(files.paths)
    bases = _folder_bases(spark, [file.path for file in raw_files], roots)
    groups: dict[tuple[str | None, Hashable], list[RawFile]] = {}
    for file, base, shape in zip(raw_files, bases, shapes, strict=True):
        groups.setdefault((base, shape), []).append(file)
    patterns = any(PATTERN.search(path) for path in files.paths)
    found = []
    for (base, shape), members in groups.items():
        # Below plain paths Spark finds by itself what folder names add; below patterns and for files it is told.
        as_configured = whole and len(groups) == 1 and (base is None or not patterns)
        paths = files.paths if as_configured else tuple(escaped(file.path) for file in members)
        told = None if as_configured else base
        found.append(Scan(shape, tuple(members), paths, told))
    return found


def joined_columns(files: Files) -> list[str]:
    """The names of the columns that joins add to a source."""
    return [name for join in getattr(files, "join", ()) for name in join.columns]


def rows_of_scans(
    found: Sequence[Scan],
    files: Files,
    where: str,
    check: Check,
    whole: bool,
    read: Callable[[Scan], DataFrame],
) -> Raw:
    """Read each scan, and unite the rows of those that fit; the files of one that does not fit are broken.

    A scan fits that has every column of `files.needed`, and that `check` does not refuse. Raises UserError where none
    fits, or one of our other columns is in no scan at all; where the files are not the whole source, its rows are null.
    """
    frames, broken, first = [], [], None
    joined = joined_columns(files)
    for scan in found:
        label = where if len(found) == 1 else f"{where} ({scan.members[0].name})"
        try:
            frame = read(scan)
            columns = own_columns(frame)
            refuse_internal(columns, label)
            require_columns([*columns, *joined], files, label, files.needed)
            if not joined:
                check(frame, label)
            frames.append(frame)
        except UserError as error:
            first = first or error
            reason = str(error).removeprefix(f"{label}: ")
            broken += [Broken(file.name, file.arrival, reason) for file in scan.members]
    if not frames:
        assert first is not None, "there is at least one scan"
        raise NothingReadable(str(first), tuple(broken))
    frame = united(frames)
    available = [*own_columns(frame), *joined]
    if whole:
        require_columns(available, files, where)
    for ours in lacking(available, files):
        frame = frame.withColumn(files.columns[ours], F.lit(None).cast("string"))
    text = tuple(own_columns(frames[0])) if len(frames) == 1 else None
    return Raw(frame, tuple(broken), text)


def escaped(path: str) -> str:
    """The path as a pattern that stands for itself alone."""
    return PATTERN.sub(r"\\\g<0>", path)


def with_arrival(frame: DataFrame, files: Files, members: Sequence[RawFile]) -> DataFrame:
    """Add ARRIVAL, let FILE be the name of what may be a copy, and add what the folders of that name would add.

    Literals where there is one file, or every file tells the same; otherwise a broadcast join.
    """
    moved = any(file.name != file_name(file.path) for file in members)
    arrivals = {file.arrival for file in members}
    if not moved and len(arrivals) == 1:
        return frame.withColumn(ARRIVAL, F.lit(arrivals.pop()).cast("date"))
    spark = frame.sparkSession
    folders = [_folder_values(file.name, files.paths) if moved else {} for file in members]
    added = [name for name in dict.fromkeys(key for values in folders for key in values) if name not in frame.columns]
    if len(members) == 1:
        values = [F.lit(folders[0][name]).cast("string").alias(name) for name in added]
        frame = frame.select(*[quoted(name) for name in frame.columns if name != FILE], *values)
        return frame.withColumns({FILE: F.lit(members[0].name), ARRIVAL: F.lit(members[0].arrival).cast("date")})
    default = _default_root(spark)
    rows = [
        (_as_metadata(file.path, default), file.name, file.arrival, *[values.get(name) for name in added])
        for file, values in zip(members, folders, strict=True)
    ]
    schema = "_path string, _name string, _arrival date"
    places = spark.createDataFrame(rows, f"{schema}{''.join(f', _folder_{i} string' for i in range(len(added)))}")
    joined = frame.join(F.broadcast(places), on=F.col(FILE) == F.col("_path"), how="left")
    return joined.select(
        *[quoted(name) for name in frame.columns if name != FILE],
        *[F.col(f"_folder_{place}").alias(name) for place, name in enumerate(added)],
        F.coalesce("_name", FILE).alias(FILE),
        F.col("_arrival").alias(ARRIVAL),
    )


def _folder_bases(spark: SparkSession, paths: list[str], roots: list[str]) -> list[str | None]:
    """For each file, the folder above its first folder `name=value` below the root that it is under, or None."""
    jvm: Any = spark._jvm
    hadoop: Any = spark.sparkContext._jsc.hadoopConfiguration()
    tops = []
    for root in roots:
        location = jvm.org.apache.hadoop.fs.Path(_above_pattern(root))
        qualified = location.getFileSystem(hadoop).makeQualified(location)
        tops.append(str(qualified.toString()).replace("file:///", "file:/"))

    def base(path: str) -> str | None:
        plain = path.replace("file:///", "file:/")
        top = max((top for top in tops if plain.startswith(f"{top.rstrip('/')}/")), key=len, default=plain)
        folders = plain[len(top) :].strip("/").split("/")[:-1]
        first = next((place for place, folder in enumerate(folders) if "=" in folder), None)
        return None if first is None else "/".join([top.rstrip("/"), *folders[:first]])

    return [base(path) for path in paths]


def _above_pattern(root: str) -> str:
    plain, *pattern = PATTERN.split(root, maxsplit=1)
    return (plain[: plain.rfind("/") + 1] or ".") if pattern else root


def _folder_values(name: str, roots: Sequence[str]) -> dict[str, str | None]:
    """What the folders `name=value` of a file that was found below one of the roots say."""
    tops = [f"{file_name(str(Path(_above_pattern(root)).absolute()) if ':' not in root else root)}/" for root in roots]
    top = max((top for top in tops if name.startswith(top)), key=len, default=name)
    folders = [folder.partition("=") for folder in name[len(top) :].split("/")[:-1] if "=" in folder]
    # A folder's own escapes stand within those of the URI.
    return {unquote(unquote(key)): None if value == NO_VALUE else unquote(unquote(value)) for key, _, value in folders}


def _default_root(spark: SparkSession) -> str:
    jvm: Any = spark._jvm
    hadoop: Any = spark.sparkContext._jsc.hadoopConfiguration()
    return str(jvm.org.apache.hadoop.fs.FileSystem.getDefaultUri(hadoop).toString()).rstrip("/")


def _as_metadata(path: str, default_root: str) -> str:
    """What FILE says before it is mapped to names."""
    return file_name(path if re.match(r"^[a-z0-9]+:", path) or path[:1] != "/" else f"{default_root}{path}")
