"""The work of clean_events, build_features and build_datasets in DuckDB or Polars, as one would write it by hand.

    python bench/scale_baselines.py duckdb --events '/data/shop/events/*/*.csv' --out /tmp/out --threads 2

Needs `pip install -e .[bench]`, or a Python of its own with duckdb and polars: it imports nothing else. All steps read
and write Parquet. Clean: types by try_cast, rows without a user, item, time or type and rows whose price or quantity is
no number go to a quarantine, exact copies are dropped. Ids: dense by first day and name. Matrix: weight, count and last
time of each user and item. Sequences: the last 50 items of each user. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WEIGHTS = {"purchase": 1.0, "add_to_cart": 0.5, "click": 0.2, "view": 0.1, "search": 0.0}
LENGTH = 50
COLUMNS = ("event_time", "user_id", "item_id", "event_type", "quantity", "price", "order_id")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("duckdb", "polars"))
    parser.add_argument("--events", required=True, help="a glob of csv files with a header")
    parser.add_argument("--out", type=Path, required=True, help="a folder to make")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    make = {"duckdb": duckdb_steps, "polars": polars_steps}[arguments.engine]
    version, steps, rows = make(arguments.events, arguments.out, arguments.threads)
    seconds = {}
    for name, step in steps.items():
        started = time.monotonic()
        step()
        seconds[name] = round(time.monotonic() - started, 3)
    counts = {path.stem: rows(path) for path in sorted(arguments.out.glob("*.parquet"))}
    print(json.dumps({"version": version, "seconds": seconds, "rows": counts}))
    return 0


Steps = tuple[str, dict[str, Callable[[], Any]], Callable[[Path], int]]


def duckdb_steps(events: str, out: Path, threads: int) -> Steps:
    """The steps in DuckDB's SQL."""
    import duckdb

    con = duckdb.connect(config={"threads": threads, "temp_directory": str(out / "spilled")})
    con.execute("SET preserve_insertion_order = false")
    con.execute("SET TimeZone = 'UTC'")
    names = ", ".join(f"'{name}': 'VARCHAR'" for name in COLUMNS)
    read = (
        f"read_csv('{events}', header = true, columns = {{{names}}}, auto_detect = false, delim = ',', quote = '', "
        "escape = '', null_padding = true, ignore_errors = true)"
    )
    weight = (
        "CASE event_type "
        + " ".join(f"WHEN '{type_}' THEN {weight}::DOUBLE" for type_, weight in WEIGHTS.items())
        + " ELSE 0 END"
    )
    joined = (
        f"read_parquet('{out}/clean.parquet') JOIN read_parquet('{out}/users.parquet') USING (user_id) "
        f"JOIN read_parquet('{out}/items.parquet') USING (item_id)"
    )

    def copy(query: str, name: str) -> str:
        return f"COPY ({query}) TO '{out}/{name}.parquet' (FORMAT parquet, COMPRESSION zstd);"

    def ids(kind: str) -> str:
        order = f"ORDER BY min(CAST(event_time AS DATE)), {kind}_id"
        query = f"SELECT {kind}_id, CAST(row_number() OVER ({order}) AS INTEGER) AS {kind}_index"
        return copy(f"{query} FROM read_parquet('{out}/clean.parquet') GROUP BY {kind}_id", f"{kind}s")

    typed = f"""
        CREATE TEMP TABLE typed AS
        SELECT *, user_id IS NULL OR item_id IS NULL OR event_time IS NULL OR event_type IS NULL
            OR (price IS NULL AND coalesce(price_text, '') <> '')
            OR (quantity IS NULL AND coalesce(quantity_text, '') <> '') AS bad
        FROM (SELECT nullif(trim(user_id), '') AS user_id, nullif(trim(item_id), '') AS item_id,
            lower(nullif(trim(event_type), '')) AS event_type, try_cast(event_time AS TIMESTAMP) AS event_time,
            try_cast(quantity AS DOUBLE) AS quantity, try_cast(price AS DOUBLE) AS price, order_id,
            quantity AS quantity_text, price AS price_text FROM {read})"""
    clean = (
        "SELECT DISTINCT user_id, item_id, event_type, event_time, quantity, price, order_id FROM typed WHERE NOT bad"
    )
    matrix = (
        f"SELECT user_index, item_index, sum({weight}) AS weight, count(*) AS events, max(event_time) AS last_time "
        f"FROM {joined} GROUP BY user_index, item_index"
    )
    sequences = (
        f"SELECT user_index, list_slice(list(item_index ORDER BY event_time), -{LENGTH}, -1) AS items "
        f"FROM {joined} GROUP BY user_index"
    )
    steps = {
        "clean": typed
        + ";"
        + copy(clean, "clean")
        + copy("SELECT * FROM typed WHERE bad", "quarantine")
        + "DROP TABLE typed",
        "ids": ids("user") + ids("item"),
        "matrix": copy(matrix, "matrix"),
        "sequences": copy(sequences, "sequences"),
    }

    def rows(path: Path) -> int:
        return int(con.execute(f"SELECT count(*) FROM read_parquet('{path}')").fetchall()[0][0])

    return duckdb.__version__, {name: lambda sql=sql: con.execute(sql) for name, sql in steps.items()}, rows


def polars_steps(events: str, out: Path, threads: int) -> Steps:
    """The steps in Polars' lazy frames, run by its streaming engine."""
    import os

    os.environ["POLARS_MAX_THREADS"] = str(threads)
    import polars as pl

    def write(frame: pl.LazyFrame, name: str) -> None:
        frame.sink_parquet(out / f"{name}.parquet", compression="zstd", engine="streaming")

    def clean() -> None:
        raw = pl.scan_csv(
            events,
            has_header=True,
            schema=dict.fromkeys(COLUMNS, pl.String),
            quote_char=None,
            encoding="utf8-lossy",
            truncate_ragged_lines=True,
        )

        def text(name: str) -> pl.Expr:
            value = pl.col(name).str.strip_chars()
            return pl.when(value != "").then(value)

        def unparsable(name: str) -> pl.Expr:
            return text(name).is_not_null() & pl.col(name).cast(pl.Float64, strict=False).is_null()

        time_ = pl.col("event_time").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
        missing = text("user_id").is_null() | text("item_id").is_null() | text("event_type").is_null()
        typed = raw.select(
            text("user_id").alias("user_id"),
            text("item_id").alias("item_id"),
            text("event_type").str.to_lowercase().alias("event_type"),
            time_.alias("event_time"),
            pl.col("quantity").cast(pl.Float64, strict=False),
            pl.col("price").cast(pl.Float64, strict=False),
            text("order_id").alias("order_id"),
            (missing | time_.is_null() | unparsable("price") | unparsable("quantity")).alias("bad"),
        )
        good = typed.filter(~pl.col("bad")).drop("bad").unique(maintain_order=False)
        bad = typed.filter(pl.col("bad"))
        sinks = [
            frame.sink_parquet(out / f"{name}.parquet", compression="zstd", lazy=True)
            for name, frame in (("clean", good), ("quarantine", bad))
        ]
        pl.collect_all(sinks, engine="streaming")

    def ids() -> None:
        for kind in ("user", "item"):
            first = (
                pl.scan_parquet(out / "clean.parquet")
                .group_by(f"{kind}_id")
                .agg(pl.col("event_time").min().dt.date().alias("first_seen"))
            )
            numbered = first.sort("first_seen", f"{kind}_id").with_row_index(f"{kind}_index", offset=1)
            write(numbered.select(f"{kind}_id", pl.col(f"{kind}_index").cast(pl.Int32)), f"{kind}s")

    def joined() -> pl.LazyFrame:
        clean_events = pl.scan_parquet(out / "clean.parquet")
        return clean_events.join(pl.scan_parquet(out / "users.parquet"), on="user_id").join(
            pl.scan_parquet(out / "items.parquet"), on="item_id"
        )

    def matrix() -> None:
        weight = pl.col("event_type").replace_strict(WEIGHTS, default=0.0, return_dtype=pl.Float64)
        grouped = (
            joined()
            .group_by("user_index", "item_index")
            .agg(weight.sum().alias("weight"), pl.len().alias("events"), pl.col("event_time").max().alias("last_time"))
        )
        write(grouped, "matrix")

    def sequences() -> None:
        grouped = (
            joined().group_by("user_index").agg(pl.col("item_index").sort_by("event_time").tail(LENGTH).alias("items"))
        )
        write(grouped, "sequences")

    def rows(path: Path) -> int:
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())

    return pl.__version__, {"clean": clean, "ids": ids, "matrix": matrix, "sequences": sequences}, rows


if __name__ == "__main__":
    sys.exit(main())
