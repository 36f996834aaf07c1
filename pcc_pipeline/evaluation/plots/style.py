"""What every figure shares: colours that colour-blind readers can tell apart, line styles and short names.

Only `matplotlib.figure.Figure` is used, never pyplot: a figure then belongs to whoever holds it, in any thread, and is
freed with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008), without yellow and sky blue, too pale for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
BLUE, ORANGE, GREEN = COLOURS[:3]
PALE = "#9AA5B1"
DASHES = ("-", "--", ":", "-.")


def blank(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure of this size in inches, with one pair of axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def short(label: str, limit: int = 28) -> str:
    """A label of at most `limit` characters that can stand in a figure, its middle replaced by an ellipsis if need be.

    The middle goes, since families of labels differ at their ends. Dollar signs are escaped: a pair of them would be
    set as mathematics.
    """
    flat = " ".join(label.split())
    if len(flat) > limit:
        head = (limit - 1) * 3 // 5
        flat = f"{flat[:head]}…{flat[head + 1 - limit :]}"
    return flat.replace("$", r"\$")


def shorts(labels: list[str], limit: int = 28) -> list[str]:
    """Every label shortened, with its place added where two would read the same."""
    made = [short(label, limit) for label in labels]
    return [text if made.count(text) == 1 else f"{text} #{place}" for place, text in enumerate(made)]


def note(message: str, title: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, axes = blank(7, 3)
    axes.set_axis_off()
    axes.set_title(title)
    axes.text(0.5, 0.5, message, ha="center", va="center", transform=axes.transAxes)
    return figure


def line_style(place: int) -> tuple[str, str]:
    """The colour and dash of the line at this place: no two alike among the first 24."""
    return COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
