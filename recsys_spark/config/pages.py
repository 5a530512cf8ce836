"""What is written about configuration and tables, made from their definitions."""

from __future__ import annotations

import textwrap

from recsys_spark.config.keys import Key, default_text, first_paragraph, keys, meaning, section_of, type_text, yaml_text
from recsys_spark.config.recommenders import Recommenders
from recsys_spark.config.root import Config
from recsys_spark.tables.schemas import TABLES

WIDTH = 116
GENERATED = "python -m recsys_spark.config.document"
EXAMPLES = {
    "source": """\
source:                                # or a list of such mappings
  format: csv
  path: landing/*.csv
  options: {header: "true"}
  columns: {user_id: CustomerID, item_id: StockCode, event_time: InvoiceDate, order_id: InvoiceNo, quantity: Quantity}
  event_type: purchase
  timestamp_format: M/d/yyyy H:mm
  reject: {cancelled: "InvoiceNo LIKE 'C%'"}
  # Files land by the day on which they arrived, and a day is cleaned from what arrived in time for it:
  #   arrival: {path_pattern: '/(\\d{4}-\\d{2}-\\d{2})/'}
  # Columns from other files, such as what became of an order's payment:
  #   join: [{name: payments, format: csv, path: payments.csv, options: {header: "true"}, on: {InvoiceNo: invoice},
  #           columns: {payment_status: state}, newest_by: at, required: true}]
  #   reject: {unpaid: "payment_status <> 'paid'"}""",
    "catalog": """\
catalog:
  format: parquet
  path: catalogue.parquet
  columns: {item_id: id, title: name, description: text, category: department, brand: brand}""",
    "demographics": """\
demographics:
  format: csv
  path: customers.csv
  options: {header: "true"}
  columns: {user_id: customer, age: age_band, income: income_band}""",
}
"""Sections without a default value are shown by example."""
NESTED_EXAMPLES = {
    "monitoring.notify.email": """\
email:
  host: smtp.example.org
  sender: shop@example.org
  to: [ops@example.org]
  user_env: SMTP_USER
  password_env: SMTP_PASSWORD""",
    "fusion.segments": "segments: {light: 5, heavy: 50}",
    "evaluation.logged": """\
logged:
  format: parquet
  path: exposures/*.parquet
  columns: {user_id: user, item_id: item, time: shown_at, propensity: probability, rank: place}
  within_hours: 24""",
}
"""The same for sections within others, which are absent unless given."""
TABLE_MEANINGS = {
    "clean_events": "Events that passed cleaning, one row an event.",
    "quarantine": "Rows that did not pass, as they stood in the source, each with every reason.",
    "user_ids": "Dense index of each user; append-only, 0 is reserved.",
    "item_ids": "Dense index of each item; append-only, 0 is reserved.",
    "items": "What the catalogue and the events say about each item.",
    "histories": "Each user's events in the order of time, as parallel arrays. Items are global item indices, times "
    "epoch seconds, event types positions in `recsys_spark.events.types.EVENT_TYPES`; folds: 0 train, 1 valid, 2 test.",
    "cold_items": "Items whose first event is in the valid or test fold, which no model of that fit can know.",
    "cold_targets": "Of each user the cold items that they had a target event with, by fold.",
    "item_features": "Of each fit and item its codes, age and popularity, by what was known at the fit's cut; items "
    "that the fit never saw have what the fitted maps give them.",
    "item_tokens": "Of each fit and item its text as positions in the fit's vocabulary (0 pad, 1 unknown), and as "
    "subwords where a tokenizer is given.",
    "item_keywords": "Of each fit and item the words that tell it from others (TF-IDF), and its TF-IDF vector.",
    "item_vectors": "Of each fit and item its vectors from text and from sequences.",
    "user_features": "Of each fit and user their activity, recency, price level, category mix and given attributes.",
    "evaluation_recommendations": "The exact lists that the reported test metrics were computed from: of each "
    "recommender and of `fused`, with repeats allowed and dropped.",
    "evaluation_metrics": "The test metrics, each with its bootstrap interval (null where it has none) and the number "
    "of users behind it.",
    "evaluation_segments": "The test metrics by user activity, and those of the relevant items of an age or a "
    "popularity stratum alone, each with its interval; `users` are those of the segment, or with such items.",
    "evaluation_comparisons": "Differences of test metrics on the same users, `model` less `against`, with interval "
    "and p-value: of `fused` against every other, and of every model against popularity.",
    "backtest_metrics": "The metrics at earlier origins, of lists that know nothing after `valid_start`, on the window "
    "up to `valid_end`; origin 1 is the newest.",
    "recommendations": "The published lists. `components` holds each recommender's part of the score.",
    "exposures": "Where `rules.exploration` is on: of each place of the published lists the probability with which the "
    "policy shows this user this item there. `recsys_spark/fusion/rules/exploration.py` says by which formula.",
    "promotions": "Every decision on a challenger, oldest first; rows are only ever added. Gates and lineage are JSON.",
    "job_runs": "Every attempt of every job, oldest first; rows are only ever added, also for runs that failed or were "
    "refused. Each job adds its own. `docs/operations.md` says what each status means.",
    "monitoring": "What `jobs/monitor.py` measured of each day: a row for each kind of measure and subject, with its "
    "value, what is usual, its status (`ok`, `warn`, `alert`) and a sentence. A day that is done again has new rows.",
    "alert_actions": "What became of alerts, oldest first; rows are only ever added: publication that was held up, who "
    "acknowledged it and why, roll backs, and messages that were sent or could not be (their `subject` is the way, "
    "their `sentence` a digest of what was told).",
    "live_events": "Events that the stream took in, one row an event, with the number of the micro-batch that did. It "
    "has no versions: each micro-batch adds a folder below `<workspace>/online/batches/`; `show` prints a glob.",
    "live_quarantine": "Live events that did not pass, as they stood in the source, each with every reason; it lies "
    "where `live_events` does.",
}


def configuration_page() -> str:
    """Markdown: each section with its keys, their defaults, types and meanings."""
    lines = [
        "# Configuration",
        "",
        f"Written by `{GENERATED}` from the models in `recsys_spark/config/`; change it there.",
        "",
        "A job takes `--config FILE`, several times if you like (later files win, mapping by mapping), and",
        "`--set a.b=value`, which wins over files. An unknown key or a bad value is one line on stderr and exit code",
        "2, before Spark starts.",
        "`conf/base.yaml` holds every default; a file of your own needs `source` alone.",
    ]
    every = list(keys(Config))
    lines += _section_of_page("The whole", (), [key for key in every if len(key.path) == 1])
    for parent in (key for key in every if key.section):
        members = [key for key in every if key.path[:-1] == parent.path]
        assert parent.section is not None
        lines += _section_of_page(f"`{parent.dotted}`", parent.path, members, first_paragraph(parent.section))
        example = (EXAMPLES | NESTED_EXAMPLES).get(parent.dotted)
        if example:
            lines += ["", "```yaml", example, "```"]
    return "\n".join(lines) + "\n"


def _section_of_page(title: str, path: tuple[str, ...], members: list[Key], text: str = "") -> list[str]:
    lines = ["", f"## {title}", ""]
    lines += [text, ""] if text else []
    lines += ["| key | default | type | meaning |", "|---|---|---|---|"]
    for key in members:
        default = "see below" if key.section and key.field.default is not None else default_text(key.field)
        cells = (f"`{key.path[-1]}`", default, type_text(key), meaning(key))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return lines


def tables_page() -> str:
    """Markdown: each table with its columns, key and the job that publishes it."""
    lines = [
        "# Tables",
        "",
        f"Written by `{GENERATED}` from `recsys_spark/tables/schemas.py`; change it there.",
        "",
        "Every committed version of a table is a directory of Parquet files below `<workspace>/stages/<stage>/runs/`.",
        "The path of the newest one is printed by `python -m recsys_spark.tables show NAME --config FILE`; with",
        "`tables.catalog` set, the view `<catalog>.NAME` shows it to SQL. Times are UTC.",
    ]
    for table in TABLES.values():
        lines += ["", f"## {table.name}", "", f"{TABLE_MEANINGS[table.name]} Published by `{table.stage}`."]
        lines += [f"A row's key: {', '.join(f'`{name}`' for name in table.key)}." if table.key else "Rows have no key."]
        lines += ["", "| column | type |", "|---|---|"]
        columns = [column.split(" ", 1) for column in table.columns.split(", ")]
        lines += [f"| `{name}` | `{type_}` |" for name, type_ in columns]
    return "\n".join(lines) + "\n"


def base_yaml() -> str:
    """YAML: every key with its default and its meaning."""
    lines = [
        "# Every key of the configuration with its default and its meaning.",
        f"# Written by `{GENERATED}` from recsys_spark/config/; put settings of your own into another file.",
    ]
    for key in keys(Config):
        if any(".".join(key.path[:end]) in NESTED_EXAMPLES for end in range(1, len(key.path))):
            continue
        if key.path[0] in EXAMPLES:
            if len(key.path) == 1:
                lines += [
                    "",
                    *_comment(meaning(key), ""),
                    *(f"# {line}" for line in EXAMPLES[key.path[0]].splitlines()),
                ]
            continue
        indent = "  " * (len(key.path) - 1)
        lines += [""] if len(key.path) == 1 else []
        lines += _comment(meaning(key), indent)
        if key.dotted in NESTED_EXAMPLES:
            lines += [f"{indent}{key.path[-1]}: null"]
            lines += [f"{indent}# {line}" for line in NESTED_EXAMPLES[key.dotted].splitlines()]
            continue
        value = "" if key.section else f" {yaml_text(key.field.get_default(call_default_factory=True))}"
        lines.append(f"{indent}{key.path[-1]}:{value}")
    return "\n".join(lines) + "\n"


def model_yaml(name: str) -> str:
    """YAML: one recommender's settings with their defaults and meanings."""
    section = section_of(Recommenders.model_fields[name].annotation)
    assert section is not None
    lines = [
        *_comment(first_paragraph(section), ""),
        f"# Its settings with their defaults, written by `{GENERATED}`: copy what you want to change.",
        "recommenders:",
        f"  {name}:",
    ]
    for key in keys(section):
        lines += _comment(meaning(key), "    ")
        lines.append(f"    {key.path[-1]}: {yaml_text(key.field.get_default(call_default_factory=True))}")
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
