"""What the pictures of all pages have in common."""

from __future__ import annotations

import io
import warnings
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WIDTH, FONT = 6.0, 9
"""Inches and points: narrow enough that the letters can be read where a phone shrinks the picture."""
SHOWN_CHARACTERS = 36


def new_figure(height: float) -> Figure:
    """An empty picture of the pages' width, `height` inches high; it never asks for a display."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The finished picture."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=FONT)
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in letters that the font lacks
        figure.savefig(written, dpi=140, format="png")
    return written.getvalue()


def legend(axes: Axes) -> None:
    """The names of what is drawn, in one line above the panel."""
    columns = max(1, len(axes.get_legend_handles_labels()[1]))
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "borderaxespad": 0.2}
    axes.legend(**place, ncols=columns, frameon=False, fontsize=FONT, handlelength=1, columnspacing=1.2)


def plain(text: str) -> str:
    """Text as matplotlib draws it letter by letter: on one line, cut, and no dollar sign that starts a formula."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    cut = shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[: SHOWN_CHARACTERS - 1]}…"
    return cut.replace("$", r"\$")
