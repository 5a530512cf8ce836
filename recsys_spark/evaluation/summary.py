"""`python -m recsys_spark.evaluation.summary --config FILE`: what the last run made, for people to read. No Spark."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recsys_spark.config import Config, load_config
from recsys_spark.errors import UserError
from recsys_spark.evaluation.report.newest import newest_report
from recsys_spark.evaluation.sampling import smallest_hashes
from recsys_spark.tables.pointer import Commit
from recsys_spark.tables.schemas import TABLES
from recsys_spark.tables.workspace import Workspace

SHOWN_METRICS = ("ndcg", "recall", "precision", "hit_rate", "map", "mrr", "coverage")
SHOWN_USERS = 3
SHOWN_ITEMS = 5
MODES = {"allow": "repeats allowed", "drop": "repeats dropped"}


@dataclass(frozen=True)
class Published:
    """The newest committed version of what the summary shows."""

    workspace: Workspace

    def commit(self, name: str) -> Commit:
        """The newest commit of a table. Raises UserError where there is none."""
        return self.workspace.table_commit(name)

    def rows(self, name: str, columns: Sequence[str], where: ds.Expression | None = None) -> pa.Table:
        """Columns of a table's rows, read with a filter so that only what is shown is held."""
        return ds.dataset(self.commit(name).path(name), format="parquet").to_table(columns=list(columns), filter=where)

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Columns of all rows, a batch at a time."""
        dataset = ds.dataset(self.commit(name).path(name), format="parquet")
        yield from dataset.to_batches(columns=list(columns))


def show(config: Config, console: Console) -> None:
    """Print the metric tables, a few users, the tables' paths and the registered models."""
    published = Published(Workspace(config.workspace))
    published.commit("recommendations")
    for mode in config.evaluation.modes:
        console.print(metric_table(published, mode, min(config.evaluation.k)))
    for user in sampled_users(published):
        _show_user(published, user, console)
    console.print(_path_table(published))
    _show_report(config, console)
    _show_models(config, published.workspace.root, console)


def metric_table(published: Published, mode: str, k: int) -> Table:
    """Metrics at `k` of every recommender, the best NDCG first, with the fusion at the top."""
    where = (ds.field("repeats") == mode) & (ds.field("k") == k)
    columns = ["model", "metric", "value", "low", "high", "users"]
    rows = published.rows("evaluation_metrics", columns, where).to_pylist()
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        values.setdefault(row["model"], {})[row["metric"]] = row["value"]
    intervals = {row["model"]: row for row in rows if row["metric"] == "ndcg" and row["low"] is not None}
    users = max((row["users"] for row in rows if row["metric"] == "ndcg"), default=0)
    shown = [name for name in SHOWN_METRICS if any(name in metrics for metrics in values.values())]
    table = Table(title=f"Test metrics at {k}, {MODES[mode]}, {users:,} users", title_justify="left")
    table.add_column("recommender")
    for name in shown:
        table.add_column(name, justify="right")
    for model in sorted(values, key=lambda name: (name != "fused", -values[name].get("ndcg", 0.0), name)):
        cells = [f"{values[model][name]:.4f}" if name in values[model] else "" for name in shown]
        if model in intervals and "ndcg" in shown:
            cells[shown.index("ndcg")] += " ({low:.4f}-{high:.4f})".format(**intervals[model])
        table.add_row(model, *cells, style="bold" if model == "fused" else None)
    return table


def sampled_users(published: Published, count: int = SHOWN_USERS) -> list[str]:
    """Users with lists, drawn by the hash of their id: the same ones after every run."""
    batches = published.batches("recommendations", ["user_id", "rank"])
    firsts = (batch.filter(pc.equal(batch["rank"], 1))["user_id"].to_pylist() for batch in batches)
    return smallest_hashes(firsts, count)


def _show_user(published: Published, user: str, console: Console) -> None:
    of_user = ds.field("user_id") == user
    history = last_events(published, of_user)
    columns = ["rank", "item_id", "score", "reason"]
    lists = published.rows("recommendations", columns, of_user & (ds.field("rank") <= SHOWN_ITEMS)).to_pylist()
    titles = _titles(published, [row["item_id"] for row in lists])
    table = Table(title=f"User {user}", title_justify="left", show_lines=False)
    table.add_column("last events")
    table.add_column("recommended")
    table.add_column("score", justify="right")
    table.add_column("because")
    lists.sort(key=lambda row: row["rank"])
    for position in range(max(len(history), len(lists))):
        row = lists[position] if position < len(lists) else None
        recommended = (f"{row['rank']}. {titles[row['item_id']]}", f"{row['score']:.3f}", row["reason"]) if row else ()
        cells = (history[position] if position < len(history) else "", *recommended)
        table.add_row(*[escape(cell) for cell in cells])  # a title's [brackets] are no markup
    console.print(table)


def last_events(published: Published, of_user: ds.Expression) -> list[str]:
    """The last distinct items of a user's history, newest first, each with its day."""
    rows = published.rows("histories", ["items", "times"], of_user).to_pylist()
    newest: dict[int, int] = {}
    for row in rows:
        for item, time in zip(reversed(row["items"]), reversed(row["times"]), strict=True):
            newest.setdefault(item, time)
            if len(newest) == SHOWN_ITEMS:
                break
    items = published.rows("items", ["item_index", "item_id", "title"], ds.field("item_index").isin(list(newest)))
    titles = {row["item_index"]: row["title"] or row["item_id"] for row in items.to_pylist()}
    return [f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d} {titles.get(item, item)}" for item, time in newest.items()]


def _titles(published: Published, item_ids: Sequence[str]) -> dict[str, str]:
    rows = published.rows("items", ["item_id", "title"], ds.field("item_id").isin(list(item_ids))).to_pylist()
    return {item: item for item in item_ids} | {row["item_id"]: row["title"] or row["item_id"] for row in rows}


def _path_table(published: Published) -> Table:
    table = Table(title=f"Tables (Parquet) below {published.workspace.root}", title_justify="left")
    table.add_column("table")
    table.add_column("rows", justify="right")
    table.add_column("path", overflow="fold")
    for name in TABLES:
        try:
            commit = published.commit(name)
        except UserError:
            continue
        if name not in commit.tables:
            continue  # a table that its stage writes only where it is asked for
        path = commit.path(name).relative_to(published.workspace.root)
        table.add_row(name, f"{commit.tables[name]:,}", str(path))
    return table


def _show_report(config: Config, console: Console) -> None:
    try:
        path = newest_report(config)
    except UserError:  # of an evaluation that made none
        return
    console.print("The report of the evaluation, to open in a browser:", style="bold")
    console.print(f"  {path}", soft_wrap=True, highlight=False, markup=False)


def _show_models(config: Config, root: Path, console: Console) -> None:
    # Here, since MLflow takes a second to import and the tables above need none of it.
    from recsys_spark.tracking.registry import registered_versions
    from recsys_spark.tracking.runs import Tracker

    tracker = Tracker(config, root)
    table = Table(title="Registered models", title_justify="left")
    for heading in ("model", "version", "alias"):
        table.add_column(heading)
    for name, alias, version in registered_versions(tracker):
        table.add_row(name, version, alias)
    console.print(table)
    console.print("Browse the runs and the registry with:", style="bold")
    console.print(f"  {tracker.ui_command}", soft_wrap=True, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the summary; exit 2 with one line where there is nothing to show."""
    parser = argparse.ArgumentParser(prog="python -m recsys_spark.evaluation.summary", description=__doc__)
    parser.add_argument("--config", required=True, action="append", help="YAML file; may be given several times")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
    options = parser.parse_args(arguments)
    # A pipe has no width of its own, and a log is read in wide windows.
    settings: dict[str, Any] = {} if sys.stdout.isatty() else {"width": 140}
    try:
        show(load_config(options.config, options.overrides), Console(highlight=False, **settings))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
