"""Pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from recsys_spark.config.sections import Repeats


def plot_metric(
    values: Mapping[Repeats, Mapping[str, float]], modes: Sequence[Repeats], metric: str, path: Path
) -> None:
    """Horizontal bars of one metric: models by mode of repeats (`values[mode][model]`), one panel a mode, as PNG."""
    figure = Figure(figsize=(5.5 * len(modes), 0.4 * max(len(by_model) for by_model in values.values()) + 1.2))
    FigureCanvasAgg(figure)
    for position, mode in enumerate(modes):
        axes = figure.add_subplot(1, len(modes), position + 1)
        by_model = sorted(values[mode].items(), key=lambda entry: entry[1])
        bars = axes.barh(
            [model for model, _ in by_model],
            [value for _, value in by_model],
            color=["#c2410c" if model == "fused" else "#64748b" for model, _ in by_model],
        )
        axes.bar_label(bars, fmt="%.4f", padding=3, fontsize=8)
        axes.margins(x=0.15)
        axes.set_title(f"{metric}, repeats: {mode}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
