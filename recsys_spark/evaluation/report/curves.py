"""Learning curves, as the fits told them to MLflow while they ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recsys_spark.evaluation.report.content import Curve

History = Callable[[str, str], list[tuple[int, float]]]
"""Run id and metric to its points (step, value), in the order of steps."""
FIT = "select"


def learning_curves(parts: Mapping[str, Mapping[str, Any]], history: History) -> list[Curve]:
    """A curve for each recommender that told one.

    `parts` are the facts of each recommender's part of train_models: `run_id`, and `fits` with what each fit found.
    """
    curves = []
    for name, facts in parts.items():
        loss, ndcg = (_steps(history(facts["run_id"], f"{FIT}.{metric}")) for metric in ("loss", "valid_ndcg_at_10"))
        if loss or ndcg:
            best = facts.get("fits", {}).get(FIT, {}).get("best_epoch")
            curves.append(Curve(model=name, loss=loss, ndcg=ndcg, best_epoch=best))
    return curves


def _steps(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Points of the curve; of a step that was told twice, as after a restart, the later one.

    What a fit found at its end stands under the same name, at step 0: that is no point of the curve.
    """
    return sorted({step: value for step, value in points if step > 0}.items())
