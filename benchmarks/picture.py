"""Draws the figures of the benchmark as bars: a panel for each unit, the gate's bars first."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from measure import Figure

# The title of the panel of each unit, in the order of the picture.
PANELS = {
    "× F": "Verification, × the least that any gate must do (logarithmic)",
    "× Flask": "Request to a Flask view, × the bare view",
    "× Starlette": "Request to a Starlette route, × the bare route",
}

OURS = "#2f81f7"
PEERS = "#a0a7b0"

# Halfway between a white page and a dark page: as readable on either.
TEXT = "#757b83"

STYLE = {
    "axes.spines.bottom": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "svg.fonttype": "none",
    # Ids of elements derive from the salt. Without it they are random.
    "svg.hashsalt": "faregate",
    **dict.fromkeys(("axes.edgecolor", "text.color", "xtick.color", "ytick.color"), TEXT),
}

# In inches. A README is about nine inches wide.
WIDTH = 8.6
BAR = 0.2
TITLE = 0.4
LEGEND = 0.3


def draw(figures: list[Figure], file: Path) -> None:
    """Write the figures of the panels as SVG; equal figures give equal bytes.

    Without matplotlib (the extra ``bench``), print a line that says so, and write nothing.
    """
    if find_spec("matplotlib") is None:
        print("No picture is drawn: that needs the extra 'bench'.")
        return

    panels: dict[str, list[Figure]] = {}
    for unit in PANELS:
        shown = [figure for figure in figures if figure.unit == unit]
        if shown:
            panels[unit] = sorted(shown, key=lambda figure: figure.peer)

    counts = [len(shown) for shown in panels.values()]
    height = sum(counts) * BAR + len(counts) * TITLE + LEGEND

    matplotlib: Any = import_module("matplotlib")
    with matplotlib.rc_context(STYLE):
        picture = import_module("matplotlib.figure").Figure((WIDTH, height), layout="constrained")

        rows = picture.subplots(len(panels), height_ratios=counts, squeeze=False)[:, 0]
        for axes, (unit, shown) in zip(rows, panels.items(), strict=True):
            _panel(axes, unit, shown)

        patch = import_module("matplotlib.patches").Patch
        handles = [patch(color=OURS, label="faregate"), patch(color=PEERS, label="other packages")]
        picture.get_layout_engine().set(hspace=0.04)
        picture.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False)

        # A date would make each file differ.
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        picture.savefig(file, format="svg", transparent=True, metadata=metadata)


def _panel(axes: Any, unit: str, figures: list[Figure]) -> None:
    """Draw a panel.

    Logarithmic bars begin at the floor. Linear bars begin at zero, with a line at the floor.
    """
    logarithmic = unit == "× F"
    scale = "linear"
    left = 0.0
    if logarithmic:
        scale = "log"
        left = 1.0

    # The title names the framework already.
    names = [figure.name.removeprefix(f"{unit[2:]}, ") for figure in figures]
    widths = [figure.value - left for figure in figures]
    colors = [PEERS if figure.peer else OURS for figure in figures]

    axes.set_title(PANELS[unit], loc="left", fontsize=10, fontweight="bold")
    axes.set_xscale(scale)
    axes.set_yticks(range(len(names)), names)
    bars = axes.barh(range(len(names)), widths, left=left, height=0.7, color=colors)
    axes.bar_label(bars, [_label(figure.value) for figure in figures], padding=4)
    if not logarithmic:
        axes.axvline(1.0, color=TEXT, linewidth=0.8, linestyle="dashed")

    axes.margins(x=0.08)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params("y", length=0)
    axes.xaxis.set_visible(False)


def _label(value: float) -> str:
    """Return a figure as text, with decimals below ten."""
    if value < 10:
        return f"{value:.2f}"
    return f"{value:,.0f}"
