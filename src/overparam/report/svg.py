"""From a matplotlib figure to an SVG element that stands inside an HTML page.

matplotlib writes a whole XML document with its own identifiers, fonts and links. Inside a page the
identifiers of two figures would collide, links to namespaces look like requests, and a fixed size
does not fit a narrow screen, so all three are taken out. Colours are the page's, light or dark.
Text stays text: it can be searched, copied and read aloud. The same figure always gives the same
bytes.
"""

import io
import json
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from cycler import cycler
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.style import context

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE = "#CC79A7", "#E69F00"
"""Colours of Okabe and Ito, told apart by colour-blind readers."""
INK, GREY = "#222222", "#6b6b6b"
GRID, HATCH = "#e3e3e3", "#c8c8c8"
VARIABLES = {
    BLUE: "blue",
    VERMILLION: "vermillion",
    GREEN: "green",
    INK: "ink",
    GREY: "soft",
    GRID: "line",
    HATCH: "line",
    "#ffffff": "paper",
}
"""The page's names for colours, which are others in dark mode; outside a page they are these."""

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
"""What the page is set in; the figures are measured in DejaVu Sans, which is wider."""

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "overparam",
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=[BLUE, VERMILLION, GREEN, PURPLE]),
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "hatch.color": HATCH,
    "hatch.linewidth": 0.6,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a function under the report's style, whatever the user's own matplotlib settings."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with context(["default", STYLE]):
            return draw(*args, **kwargs)

    return inner


@styled
def inline_svg(figure: Figure, prefix: str, description: str) -> Markup:
    """A figure as an SVG element.

    Args:
        figure: The figure; drawn here, on a canvas of its own.
        prefix: Put before every identifier, different for every figure of a page.
        description: What the figure shows, for those who cannot see it.

    Returns:
        The element, to be put into HTML as it is.
    """
    for number, axes in enumerate(figure.axes):
        for place, line in enumerate(_curves(axes)):
            line.set_gid(f"curve_{number}_{place}")
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(figure).print_svg(stream, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('xlink:href="#', f'href="#{prefix}-')
    text = re.sub(r"(font: [^;\"]*?)'DejaVu Sans'", rf"\1{FONTS}", text)
    for colour, name in VARIABLES.items():
        text = text.replace(f": {colour.lower()}", f": var(--{name}, {colour.lower()})")
    label = escape(description)
    box = _view_box(text)
    panels = escape(json.dumps(_panels(figure, box, prefix), ensure_ascii=False))
    head = f'<svg role="img" aria-label="{label}" viewBox="{box}" data-panels="{panels}">'
    return Markup(re.sub(r"<svg[^>]*>", lambda _: head, text, count=1))


def _curves(axes: Axes) -> list[Line2D]:
    """What is drawn in data coordinates from point to point."""
    return [line for line in axes.lines if line.get_transform() is axes.transData]


def _panels(figure: Figure, view_box: str, prefix: str) -> list[dict[str, Any]]:
    """Where each pair of axes lies in the drawing, what its ends are, and its curves' names.

    From this the page's script tells the values of a curve's points.
    """
    width, height = map(float, view_box.split()[2:])
    panels: list[dict[str, Any]] = []
    for axes in figure.axes:
        names = ((f"{prefix}-{line.get_gid()}", str(line.get_label())) for line in _curves(axes))
        curves = [(name, "" if label.startswith("_") else label) for name, label in names]
        at = axes.get_position()
        box = (at.x0 * width, (1 - at.y1) * height, at.x1 * width, (1 - at.y0) * height)
        panels.append({"box": [round(end, 4) for end in box], "curves": curves})
        for name in ("x", "y"):
            axis = getattr(axes, f"{name}axis")
            panels[-1][name] = {
                "label": axis.get_label_text(),
                "ends": list(map(float, axis.get_view_interval())),
                "log": axis.get_scale() == "log",
            }
    return panels


def _view_box(text: str) -> str:
    match = re.search(r'viewBox="([^"]*)"', text)
    assert match is not None, "matplotlib writes a viewBox"
    return match.group(1)
