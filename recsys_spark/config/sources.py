"""The configuration of what is read: event logs, the catalogue, what is known of users."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from recsys_spark.config.allowed import Variable, column_names, data_path, own_names, package_file, table_name
from recsys_spark.config.predicates import check_predicates
from recsys_spark.config.reader_options import jdbc_options, reader_options
from recsys_spark.config.section import PositiveFloat, Section
from recsys_spark.redaction import holds_secret, is_secret

HELD = "options hold a password; put it into an environment variable and name that password_env"
EVENT_COLUMNS = ("user_id", "item_id", "event_time", "event_type", "quantity", "price", "order_id")
REQUIRED_COLUMNS = frozenset({"user_id", "item_id", "event_time", "event_type"})
LOGGED_COLUMNS = ("user_id", "item_id", "time", "propensity", "rank")
CATALOG_COLUMNS = ("item_id", "title", "description", "category", "brand", "price")


class Arrival(Section):
    """Where the day on which a row arrived is told; give exactly one key."""

    path_pattern: str | None = None
    """csv, json, parquet: a regular expression whose one group is the date in a file's path, as `2024-01-05` or
    `20240105`: `day=([0-9-]+)/`."""
    modified: bool = False
    """csv, json, parquet: the date (UTC) on which a file was last changed."""
    column: str | None = None
    """table, jdbc: the source's column that holds the date, as date, timestamp or ISO 8601 text."""

    @model_validator(mode="after")
    def _one(self) -> Arrival:
        if (self.path_pattern is not None) + self.modified + (self.column is not None) != 1:
            raise ValueError("give exactly one of path_pattern, modified: true and column")
        if self.path_pattern is not None:
            try:
                groups = re.compile(self.path_pattern).groups
            except re.error as error:
                raise ValueError(f"path_pattern {self.path_pattern!r} is no regular expression ({error})") from None
            if groups != 1:
                raise ValueError(f"path_pattern {self.path_pattern!r} has {groups} groups; put one around the date")
        return self


class Files(Section):
    """Where rows are read from."""

    format: Literal["csv", "json", "parquet", "table", "jdbc", "package"]
    """How the rows are stored; `package` is a data file inside an installed Python package."""
    path: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """A path, a glob or a list of them; a table's name for `table` and `jdbc`; `package/file.parquet` for `package`."""
    options: dict[str, str] = {}
    """Options handed to Spark's reader, such as `{header: "true", sep: ";"}`; in csv a quote inside quotes is doubled
    unless `escape` says otherwise; `jdbc` needs `url`, and `user`, `driver` and `fetchsize` are frequent."""
    password_env: Variable | None = None
    """jdbc: the environment variable that holds the password, which stands nowhere else."""
    columns: dict[str, str]
    """Our column to the file's column (letter case does not matter)."""
    arrival: Arrival | None = None
    """What tells the day on which rows arrived: then events are kept up to date day by day."""

    @field_validator("options")
    @classmethod
    def _no_secrets(cls, options: dict[str, str]) -> dict[str, str]:
        for name in options:
            if name.lower() == "password":
                raise ValueError(HELD)
            if is_secret(name):
                raise ValueError(f"options.{name} would be a secret in a file that is logged; set it as spark-submit's")
        return options

    @property
    def paths(self) -> tuple[str, ...]:
        """The configured paths as a tuple."""
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def needed(self) -> frozenset[str]:
        """Those of our columns without which a file is of no use."""
        return frozenset(self.columns)

    @model_validator(mode="after")
    def _fits_format(self) -> Files:
        if self.arrival is not None:
            by_file = self.arrival.column is None
            if by_file and self.format not in ("csv", "json", "parquet"):
                raise ValueError(f"arrival of format {self.format} cannot be told by files; give arrival.column")
            if not by_file and self.format not in ("table", "jdbc"):
                raise ValueError(
                    f"arrival.column is for table and jdbc; use path_pattern or modified for {self.format}"
                )
        if self.format == "jdbc":
            self._check_jdbc()
        elif self.password_env is not None:
            raise ValueError(f"password_env is for format jdbc, not for {self.format}")
        reader_options(self.format, self.options)
        one = {"package": package_file, "table": table_name, "jdbc": table_name}.get(self.format, data_path)
        for path in self.paths:
            one(path)
        column_names(self.columns.values())
        own_names(self.columns)
        return self

    def _check_jdbc(self) -> None:
        options = {name.lower(): value for name, value in self.options.items()}
        if "url" not in options:
            raise ValueError("options lacks url; jdbc needs one, such as jdbc:postgresql://host/database")
        if holds_secret(options["url"]):
            raise ValueError(HELD)
        for name in ("dbtable", "query"):
            if name in options:
                raise ValueError(f"options.{name} is not used; path names the table")
        jdbc_options(self.options)

    def _check_columns(self, known: tuple[str, ...], required: tuple[str, ...]) -> None:
        unknown = sorted(set(self.columns) - set(known))
        missing = [name for name in required if name not in self.columns]
        if unknown:
            raise ValueError(f"columns has unknown names {unknown}; known are {list(known)}")
        if missing:
            raise ValueError(f"columns lacks {missing}; map each to a column of the file")


class Join(Files):
    """Further columns of a source from other files or another table, such as the headers of order lines."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """What it is called; a row without a partner in a required join has the reason `without_<name>`."""
    on: Annotated[dict[str, str], Field(min_length=1)]
    """The source's column, or one joined before, to the column here that holds the same value (compared as text)."""
    columns: Annotated[dict[str, str], Field(min_length=1)]
    """The new column's name to the column here; it may then be mapped in `columns` and used in `reject`."""
    required: bool = False
    """Is a row without a partner quarantined; otherwise its new columns are null."""
    newest_by: str | None = None
    """Of several rows with one key the one with the largest value here counts; without it the last row of the last
    file in the order of their names."""

    @model_validator(mode="after")
    def _complete(self) -> Join:
        if self.arrival is not None:
            raise ValueError("arrival is told by the source, not by what is joined to it")
        return self


class Source(Files):
    """A log of events: one row an event."""

    event_type: str | None = None
    """The constant type of every row, where no column holds it."""
    event_types: dict[str, str] = {}
    """The file's event types to ours, such as `{buy: purchase}`; where given, other values are quarantined."""
    timestamp_format: str | None = None
    """Spark's pattern of `event_time`, such as `M/d/yyyy H:mm`; ISO 8601 where it is not given."""
    reject: dict[str, str] = {}
    """Reason to a Spark SQL predicate on the file's columns: rows for which it is true are quarantined."""
    join: tuple[Join, ...] = ()
    """Other files or tables whose columns are joined to each row before columns are mapped; see the example."""

    @field_validator("reject")
    @classmethod
    def _conditions(cls, predicates: dict[str, str]) -> dict[str, str]:
        check_predicates(predicates)
        return predicates

    @property
    def needed(self) -> frozenset[str]:
        """Those of our columns without which a file is of no use."""
        return REQUIRED_COLUMNS & self.columns.keys()

    @model_validator(mode="after")
    def _complete(self) -> Source:
        self._check_columns(EVENT_COLUMNS, ("user_id", "item_id", "event_time"))
        if (self.event_type is None) == ("event_type" not in self.columns):
            raise ValueError("give either event_type (a constant) or columns.event_type, not both and not neither")
        names = [join.name for join in self.join]
        columns = [name.strip().lower() for join in self.join for name in join.columns]
        if len(set(names)) < len(names) or len(set(columns)) < len(columns):
            raise ValueError("two joins have the same name or bring a column of the same name; rename one")
        return self


class Catalog(Files):
    """The catalogue: one row an item."""

    @property
    def needed(self) -> frozenset[str]:
        """Those of our columns without which a file is of no use."""
        return frozenset({"item_id"})

    @model_validator(mode="after")
    def _complete(self) -> Catalog:
        self._check_columns(CATALOG_COLUMNS, ("item_id",))
        return self


class Logged(Files):
    """Exposures that a policy drew: one row an item shown to a user, with the probability with which it was."""

    within_hours: PositiveFloat = 24.0
    """A target event of the user with the item this long after the exposure is its reward."""
    clip: Annotated[float, Field(ge=1)] | None = None
    """Importance weights above it are cut to it: less variance, and a bias downwards; by default none are."""

    @property
    def needed(self) -> frozenset[str]:
        """Those of our columns without which a file is of no use."""
        return frozenset(self.columns)

    @model_validator(mode="after")
    def _complete(self) -> Logged:
        self._check_columns(LOGGED_COLUMNS, LOGGED_COLUMNS[:4])
        if self.arrival is not None:
            raise ValueError("arrival belongs to sources of events; logged exposures are read whole")
        return self


class Demographics(Files):
    """What is known of users: one row a user, `user_id` and columns of any names."""

    @property
    def needed(self) -> frozenset[str]:
        """Those of our columns without which a file is of no use."""
        return frozenset({"user_id"})

    @model_validator(mode="after")
    def _complete(self) -> Demographics:
        if "user_id" not in self.columns:
            raise ValueError("columns lacks user_id; map it to a column of the file")
        return self
