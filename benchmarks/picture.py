"""Draws the figures of the benchmark: a bar each, the gate's beside those of other packages, a panel for each unit."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from measure import Figure

PANELS = {
    "× F": "Verification, × the least that any gate must do (logarithmic)",
    "× Flask": "Request to a Flask view, × the bare view",
    "× Starlette": "Request to a Starlette route, × the bare route",
}
OURS, PEERS = "#2f81f7", "#a0a7b0"
# Halfway between a white page and a dark one: as readable on either.
TEXT = "#757b83"
STYLE = {
    "axes.spines.bottom": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "svg.fonttype": "none",
    # The names of parts of the picture are made from it, else by chance.
    "svg.hashsalt": "faregate",
    **dict.fromkeys(("axes.edgecolor", "text.color", "xtick.color", "ytick.color"), TEXT),
}
# In inches, of which a README is about nine wide.
WIDTH, BAR, TITLE, LEGEND = 8.6, 0.2, 0.4, 0.3


def draw(figures: list[Figure], file: Path) -> None:
    """Write the figures that have a panel as SVG, the same ones always as the same bytes.

    Without matplotlib, in the extra ``bench``, nothing is written, and a line says so.
    """
    if find_spec("matplotlib") is None:
        print("No picture is drawn: that needs the extra 'bench'.")
        return
    shown = {unit: [figure for figure in figures if figure.unit == unit] for unit in PANELS}
    shown = {
        unit: sorted(some, key=lambda figure: figure.peer) for unit, some in shown.items() if some
    }
    counts = [len(some) for some in shown.values()]
    height = sum(counts) * BAR + len(counts) * TITLE + LEGEND

    matplotlib: Any = import_module("matplotlib")
    with matplotlib.rc_context(STYLE):
        picture = import_module("matplotlib.figure").Figure((WIDTH, height), layout="constrained")
        panels = picture.subplots(len(shown), height_ratios=counts, squeeze=False)[:, 0]
        for axes, (unit, some) in zip(panels, shown.items(), strict=True):
            _panel(axes, unit, some)
        patch = import_module("matplotlib.patches").Patch
        handles = [patch(color=OURS, label="faregate"), patch(color=PEERS, label="other packages")]
        picture.get_layout_engine().set(hspace=0.04)
        picture.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False)
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        picture.savefig(file, format="svg", transparent=True, metadata=metadata)


def _panel(axes: Any, unit: str, figures: list[Figure]) -> None:
    """Draw one panel. Its bars begin at the floor if they are logarithmic, else at zero, with a line at the floor."""
    logarithmic = unit == "× F"
    begin = 1.0 if logarithmic else 0.0
    # The title names the framework already.
    names = [figure.name.removeprefix(f"{unit[2:]}, ") for figure in figures]
    widths = [figure.value - begin for figure in figures]
    colors = [PEERS if figure.peer else OURS for figure in figures]

    axes.set_title(PANELS[unit], loc="left", fontsize=10, fontweight="bold")
    axes.set_xscale("log" if logarithmic else "linear")
    axes.set_yticks(range(len(names)), names)
    bars = axes.barh(range(len(names)), widths, left=begin, height=0.7, color=colors)
    axes.bar_label(bars, [_worded(figure.value) for figure in figures], padding=4)
    if not logarithmic:
        axes.axvline(1.0, color=TEXT, linewidth=0.8, linestyle="dashed")

    axes.margins(x=0.08)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params("y", length=0)
    axes.xaxis.set_visible(False)


def _worded(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"
