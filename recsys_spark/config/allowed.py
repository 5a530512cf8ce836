"""What names, paths, addresses and options of the configuration may be, all checked before Spark starts.

Whatever reaches Spark, a database or a file system from the configuration is one of these types, or is compared with
names that are there. What is allowed is listed; what is not listed is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import unquote

from pydantic import AfterValidator

from recsys_spark.redaction import holds_secret


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
"""Of at least two letters: C: is a drive."""
STORES = words(
    "file hdfs viewfs webhdfs swebhdfs s3 s3a s3n gs abfs abfss wasb wasbs adl oss cosn obs dbfs ofs o3fs "
    "alluxio maprfs"
)
"""Schemes of paths that are read: file systems and object stores, and nothing that fetches from any server (http)."""
TRACKERS = words(
    "sqlite http https databricks uc postgresql mysql mssql postgresql+psycopg2 postgresql+psycopg "
    "mysql+pymysql mysql+mysqldb mssql+pyodbc mssql+pymssql"
)
KEYS_IN_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]*:(?!\d{1,5}(?:[/,]|$)).*@")
"""`s3a://key:secret@bucket`; a secret may hold a slash, and the port of `hdfs://namenode:8020/a@b` is none."""
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
PART = r"(?:[^\W\d][\w$#]*|`[^`/\\\x00-\x1f]+`|\"[^\"\x00-\x1f]+\"|\[[^\]\[\x00-\x1f]+\])"
TABLE = re.compile(rf"{PART}(?:\.{PART}){{0,3}}")
FILE_FORMATS = words("parquet csv json orc text avro binaryfile xml")
"""`parquet.name` would read files where there is no such table."""
PACKAGE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*/[\w.-]+(?:/[\w.-]+)*")


def variable(name: str) -> str:
    """The name of an environment variable, in capitals: what else is written there may be the secret itself."""
    if not VARIABLE.fullmatch(name):
        raise ValueError(
            "must be the name of an environment variable in capitals, such as SHOP_PASSWORD, not the value"
        )
    return name


def data_path(path: str) -> str:
    """A path or glob that Spark reads, on a file system or an object store."""
    scheme = SCHEME.match(path)
    if scheme is not None and scheme[1].lower() not in STORES:
        raise ValueError(f"{scheme[1]}: is no file system or store to read from; known are {', '.join(sorted(STORES))}")
    return _plain_path(path)


def local_path(path: str) -> str:
    """A path of this host, or one that it mounts."""
    scheme = SCHEME.match(path)
    if scheme is not None and scheme[1].lower() != "file":
        raise ValueError(f"{scheme[1]}: must be a local or mounted folder; mount the store and name its path")
    return _plain_path(path)


def _plain_path(path: str) -> str:
    if not path or CONTROL.search(path):
        raise ValueError("is empty, or holds a character that no path has")
    if KEYS_IN_PATH.match(path):
        raise ValueError("holds a password; give the store's keys to Spark by spark.conf_env")
    climbed = False
    for part in unquote(SCHEME.sub("", path)).split("/"):
        if part == ".." and climbed:
            raise ValueError(f"{path}: .. after a folder leads elsewhere than it says; write the path without it")
        climbed = climbed or part not in ("", ".", "..")
    return path


def table_name(name: str) -> str:
    """A table's name, with its schema and catalogue: no query, and no path."""
    if not TABLE.fullmatch(name):
        raise ValueError(f"{name!r} is no table's name such as shop.sales; for a query make a view in the database")
    first, _, second = name.partition(".")
    if second and "." not in second and first.strip('`"').lower() in FILE_FORMATS:
        raise ValueError(f"{name!r} would be read as files; take format {first}, or another name of the schema")
    return name


def package_file(path: str) -> str:
    """`package/folder/file.parquet`, within the package."""
    if not PACKAGE.fullmatch(path) or {".", ".."} & set(path.split("/")):
        raise ValueError(f"{path!r} is no file of a package; write it as package/file.parquet")
    return path


def column_names(names: Iterable[str]) -> None:
    """Refuse what is no column's name in any file."""
    for name in names:
        if not name.strip() or CONTROL.search(name) or len(name) > 255:
            raise ValueError(f"{name!r} is no column's name")


def own_names(names: Iterable[str]) -> None:
    """Refuse names of our own choice that Spark would take for more than a name."""
    for name in names:
        if not re.fullmatch(r"[^\W\d][\w -]{0,127}", name):
            raise ValueError(f"{name!r} must begin with a letter and hold only letters, digits, blanks, _ and -")


def tracking_uri(uri: str) -> str:
    """The address of a tracking server or its database, without a password."""
    if holds_secret(uri):
        raise ValueError(
            "holds a password; put the address into an environment variable and name that tracking.uri_env, or for a "
            "server set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    scheme = uri.partition("://")[0].lower()
    if uri != "databricks" and ("://" not in uri or scheme not in TRACKERS):
        raise ValueError("is no address that MLflow keeps runs at; give sqlite:/// or http://")
    return uri


def database(name: str) -> str:
    """A plain identifier."""
    if not IDENTIFIER.fullmatch(name):
        raise ValueError(f"{name!r} must be a plain database name (letters, digits, underscores)")
    return name


def plain_line(text: str) -> str:
    """One line of text."""
    if not text.strip() or CONTROL.search(text) or len(text) > 200:
        raise ValueError("must be one line of at most 200 characters")
    return text


Variable = Annotated[str, AfterValidator(variable)]
DataPath = Annotated[str, AfterValidator(data_path)]
LocalPath = Annotated[str, AfterValidator(local_path)]
TrackingUri = Annotated[str, AfterValidator(tracking_uri)]
Database = Annotated[str, AfterValidator(database)]
PlainLine = Annotated[str, AfterValidator(plain_line)]
