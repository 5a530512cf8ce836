"""Every table's name, owner and columns, written once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType, _parse_datatype_string

ARROW_TYPES = {
    "string": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
    "date": pa.date32(),
    "boolean": pa.bool_(),
    "double": pa.float64(),
    "bigint": pa.int64(),
    "int": pa.int32(),
    "array<string>": pa.list_(pa.field("element", pa.string())),
}
"""Arrow's types of the columns of tables that are written without Spark."""


@dataclass(frozen=True)
class Table:
    """A table of the workspace."""

    name: str
    stage: str
    """The stage whose commits publish it."""
    columns: str
    """Columns as DDL."""
    key: tuple[str, ...]
    """Columns that name a row, where rows have a key."""

    @property
    def schema(self) -> StructType:
        """The columns as a Spark schema."""
        schema = _parse_datatype_string(self.columns)
        assert isinstance(schema, StructType)
        return schema

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The same as an Arrow schema, without asking Spark, for tables that are written without it."""
        columns = (column.split(" ", 1) for column in self.columns.split(", "))
        return pa.schema([(name, ARROW_TYPES[kind]) for name, kind in columns])

    def select(self, frame: DataFrame) -> DataFrame:
        """The table's columns of `frame`, in order and cast to their types; a missing one raises AnalysisException."""
        return frame.select(*[F.col(field.name).cast(field.dataType).alias(field.name) for field in self.schema])


LIVE = "update_online"
"""The stage of tables that the stream writes, batch by batch: they have no versions, `tables.batches` keeps them."""

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "clean_events",
            "clean_events",
            "user_id string, item_id string, event_type string, event_time timestamp, quantity double, price double, "
            "order_id string, source_file string, event_date date, source_order bigint, arrival_date date",
            ("source_file", "source_order"),
        ),
        Table(
            "quarantine",
            "clean_events",
            "source_file string, raw string, reasons array<string>, run_id string, arrival_date date",
            (),
        ),
        Table("user_ids", "build_features", "user_id string, user_index int", ("user_id",)),
        Table("item_ids", "build_features", "item_id string, item_index int", ("item_id",)),
        Table(
            "items",
            "build_features",
            "item_index int, item_id string, title string, description string, category string, brand string, "
            "price double, first_seen date",
            ("item_id",),
        ),
        Table(
            "histories",
            "build_datasets",
            "user_index int, user_id string, items array<int>, event_types array<int>, weights array<float>, "
            "times array<bigint>, folds array<int>",
            ("user_id",),
        ),
        Table(
            "cold_items",
            "build_datasets",
            "fold int, item_index int, item_id string, events bigint, users bigint, first_time bigint",
            ("item_id",),
        ),
        Table(
            "cold_targets",
            "build_datasets",
            "fold int, user_index int, user_id string, items array<int>",
            ("fold", "user_id"),
        ),
        Table(
            "item_features",
            "fit_features",
            "fit string, item_index int, item_id string, category_code int, brand_code int, price_band int, "
            "price double, first_seen date, age_days int, events bigint, users bigint",
            ("fit", "item_id"),
        ),
        Table(
            "item_tokens",
            "fit_features",
            "fit string, item_index int, item_id string, tokens array<int>, subwords array<int>",
            ("fit", "item_id"),
        ),
        Table(
            "item_keywords",
            "fit_features",
            "fit string, item_index int, item_id string, keywords array<string>, weights array<float>, "
            "tfidf_tokens array<int>, tfidf_weights array<float>",
            ("fit", "item_id"),
        ),
        Table(
            "item_vectors",
            "fit_features",
            "fit string, item_index int, item_id string, text_vector array<float>, sequence_vector array<float>",
            ("fit", "item_id"),
        ),
        Table(
            "user_features",
            "fit_features",
            "fit string, user_index int, user_id string, events bigint, active_days int, target_events bigint, "
            "recency_days float, tenure_days float, mean_gap_days float, price_level float, categories array<int>, "
            "category_shares array<float>, attributes map<string,string>",
            ("fit", "user_id"),
        ),
        Table(
            "evaluation_recommendations",
            "evaluate_models",
            "model string, repeats string, user_id string, rank int, item_id string, score float",
            ("model", "repeats", "user_id", "rank"),
        ),
        Table(
            "evaluation_metrics",
            "evaluate_models",
            "model string, repeats string, metric string, k int, value double, low double, high double, users bigint",
            ("model", "repeats", "metric", "k"),
        ),
        Table(
            "evaluation_segments",
            "evaluate_models",
            "model string, repeats string, dimension string, segment string, metric string, k int, value double, "
            "low double, high double, users bigint",
            ("model", "repeats", "dimension", "segment", "metric", "k"),
        ),
        Table(
            "evaluation_comparisons",
            "evaluate_models",
            "model string, against string, repeats string, metric string, k int, difference double, low double, "
            "high double, p_value double, users bigint",
            ("model", "against", "repeats", "metric", "k"),
        ),
        Table(
            "backtest_metrics",
            "backtest_models",
            "origin int, valid_start timestamp, valid_end timestamp, model string, repeats string, metric string, "
            "k int, value double, low double, high double, users bigint",
            ("origin", "model", "repeats", "metric", "k"),
        ),
        Table(
            "recommendations",
            "fuse_recommendations",
            "user_id string, rank int, item_id string, score float, reason string, components map<string,float>, "
            "model_version string, run_id string, generated_at timestamp",
            ("user_id", "rank"),
        ),
        Table(
            "exposures",
            "fuse_recommendations",
            "user_id string, rank int, item_id string, propensity double, policy string, run_id string, "
            "generated_at timestamp",
            ("user_id", "rank"),
        ),
        Table(
            "promotions",
            "promote_model",
            "decision_id string, decided_at timestamp, action string, model string, challenger string, "
            "champion string, passed boolean, gates string, approved_by string, comment string, lineage string, "
            "run_id string",
            ("decision_id",),
        ),
        Table(
            "monitoring",
            "monitor",
            "day date, kind string, subject string, value double, reference double, rows bigint, status string, "
            "sentence string, run_id string",
            ("day", "kind", "subject"),
        ),
        Table(
            "job_runs",
            "run_pipeline",
            "job_run_id string, job string, date date, attempt int, status string, started timestamp, seconds double, "
            "rows_in bigint, rows_out bigint, error string, run_id string, host string, pid int",
            ("job_run_id",),
        ),
        Table(
            "alert_actions",
            "monitor.actions",
            "action_id string, at timestamp, action string, day date, kind string, subject string, sentence string, "
            "person string, comment string, run_id string",
            ("action_id",),
        ),
        Table(
            "live_events",
            LIVE,
            "event_id string, user_id string, item_id string, event_type string, event_time timestamp, "
            "quantity double, price double, order_id string, source_file string, batch bigint",
            ("event_id",),
        ),
        Table(
            "live_quarantine",
            LIVE,
            "source_file string, raw string, reasons array<string>, batch bigint, taken_at timestamp",
            (),
        ),
    )
}
