"""Model cards: what the registry shows of a model to somebody who does not have the code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_CHARACTERS = 5000
"""MLflow's stores hold descriptions of this many characters everywhere."""
METRIC = re.compile(r"(?P<name>.+)_at_(?P<k>\d+)(?P<drop>\.drop)?")


@dataclass(frozen=True)
class ModelCard:
    """The facts on a registered model and one of its versions."""

    title: str
    what: str
    """What it is and how it recommends: one or two sentences."""
    trained_on: str
    """Which events, how many users and items."""
    trained_until: str
    """The exclusive end of the events it knows, ISO 8601, UTC."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its slice of the configuration, and what was chosen on the valid window."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Test metrics by name, such as `test.ndcg_at_10` or `test.ndcg_at_10.drop`; empty until they are measured."""

    def model_description(self, name: str, tracking_uri: str) -> str:
        """Markdown on the registered model as a whole."""
        return "\n".join(
            [f"# {self.title}", "", self.what, "", *_how_to_load(f"models:/{name}@challenger", tracking_uri)]
        )

    def version_description(
        self, name: str, version: str, tracking_uri: str, lineage: Mapping[str, str] | None = None
    ) -> str:
        """Markdown on one version."""
        lines = [f"# {self.title}, version {version}", "", self.what, ""]
        lines += ["## Trained on", "", f"{self.trained_on.rstrip('.')}. Events before {self.trained_until} (UTC).", ""]
        lines += ["## Test metrics", "", *_metrics_table(self.metrics), ""]
        lines += _how_to_load(f"models:/{name}/{version}", tracking_uri)
        if lineage:
            lines += ["", "## Lineage", "", *_two_columns("tag", "value", lineage)]
        if self.settings:
            lines += ["", "## Settings", "", *_two_columns("setting", "value", self.settings)]
        return _fitting(lines)


def _fitting(lines: list[str]) -> str:
    """The lines as one text; what would not fit into the registry is cut at a line's end."""
    text = "\n".join(lines)
    if len(text) <= MOST_CHARACTERS:
        return text
    whole_lines = text[: MOST_CHARACTERS - 100].rpartition("\n")[0]
    return f"{whole_lines}\n\n(Cut here: the rest stands among the run's parameters.)"


def _how_to_load(uri: str, tracking_uri: str) -> list[str]:
    return [
        "## How to load it",
        "",
        "```python",
        "import mlflow",
        "import pandas as pd",
        "",
        f'mlflow.set_tracking_uri("{tracking_uri}")',
        f'model = mlflow.pyfunc.load_model("{uri}")',
        "# Users by id, or anybody by what they bought, oldest first.",
        'model.predict(pd.DataFrame({"user_id": ["1"]}), params={"k": 10})',
        'model.predict(pd.DataFrame({"history": [["item-1", "item-2"]]}), params={"k": 10, "repeats": "drop"})',
        "```",
        "",
        "Each row of the answer has `item_ids`, `scores` and `reasons`, best first. A user who is not known, or an",
        "empty history, is answered as such users are in the published lists.",
    ]


def _metrics_table(metrics: Mapping[str, float]) -> list[str]:
    """Metric by list length and treatment of repeats; metrics of other names follow in a list."""
    if not metrics:
        return ["Not measured yet."]
    cells: dict[str, dict[str, float]] = {}
    columns: dict[str, tuple[int, bool]] = {}
    rest: dict[str, float] = {}
    for key, value in metrics.items():
        parsed = METRIC.fullmatch(key.removeprefix("test."))
        if parsed is None:
            rest[key] = value
            continue
        column = f"@{parsed['k']}{' without repeats' if parsed['drop'] else ''}"
        columns[column] = (int(parsed["k"]), bool(parsed["drop"]))
        cells.setdefault(parsed["name"], {})[column] = value
    lines = []
    if cells:
        order = sorted(columns, key=lambda column: (columns[column][1], columns[column][0]))
        lines += [f"| metric | {' | '.join(order)} |", f"|---|{'---:|' * len(order)}"]
        lines += [
            f"| {name} | {' | '.join(f'{row[column]:.4f}' if column in row else '' for column in order)} |"
            for name, row in cells.items()
        ]
    return lines + ([""] if cells and rest else []) + [f"- {key}: {value:.4f}" for key, value in rest.items()]


def _two_columns(left: str, right: str, values: Mapping[str, Any]) -> list[str]:
    lines = [f"| {left} | {right} |", "|---|---|"]
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        lines.append(f"| {key} | {text.replace('|', '/').replace(chr(10), ' ')} |")
    return lines
