"""Matplotlib's figures as SVG that belongs to a page: its colours, its font, its dark side."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"

VARIABLES = {
    "ink": "#010101",
    "muted": "#020202",
    "rule": "#030303",
    "card": "#040404",
    "series-1": "#050505",
    "series-2": "#060606",
    "series-3": "#070707",
    "series-4": "#080808",
    "series-5": "#090909",
    "series-6": "#0a0a0a",
}
"""Colours by the name of the CSS variable that takes their place; matplotlib must be given some, and draws none of
these otherwise."""
REMS = 6.2
"""Of an inch at most, so that letters are as tall in a wide figure as in a narrow one."""
SERIES = [VARIABLES[f"series-{number}"] for number in range(1, 7)]


def plot(name: str, title: str, description: str, size: tuple[float, float], draw: Callable[[Figure], None]) -> Markup:
    """A figure for a page.

    Args:
        name: unique in the page.
        title: what it shows.
        description: what is to be seen in it, for those who do not see it.
        size: width and height in inches of 72 pixels.
        draw: on an empty figure.
    """
    with _style():
        from matplotlib.figure import Figure  # slow to import, and pyplot would look for a screen

        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        file = StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return Markup(_in_page(file.getvalue(), name, title, description, size[0]))  # ElementTree has escaped it


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl

    ink, muted, rule = VARIABLES["ink"], VARIABLES["muted"], VARIABLES["rule"]
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "transeg",
        "text.parse_math": False,  # names of classes and test sets may hold dollars
        "text.color": ink,
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.labelsize": 10,
        "axes.labelcolor": muted,
        "axes.edgecolor": rule,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": f"cycler(color={SERIES})",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": rule,
        "grid.linewidth": 0.6,
        "xtick.color": rule,
        "ytick.color": rule,
        "xtick.labelcolor": muted,
        "ytick.labelcolor": muted,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
        "lines.linewidth": 1.6,
    }
    with mpl.rc_context(style):
        yield


def _in_page(text: str, name: str, title: str, description: str, width: float) -> str:
    """The SVG element alone, named and described, with ids of its own and the page's colours and font."""
    ElementTree.register_namespace("", SVG)
    root = ElementTree.fromstring(text)
    for child in list(root):
        if child.tag == f"{{{SVG}}}metadata":
            root.remove(child)
    for parent in root.iter():
        for style in parent.findall(f"{{{SVG}}}style"):  # it would hold for the whole page
            parent.remove(style)
    for element in root.iter():
        _adapt(element, name)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {
        "style": f"max-width: {width * REMS:.1f}rem",
        "role": "img",
        "class": "plot",
        "aria-labelledby": f"{name}-title",
        "aria-describedby": f"{name}-desc",
    }
    for place, (tag, words) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{name}-{tag}"})
        element.text = words
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode")


def _adapt(element: ElementTree.Element, name: str) -> None:
    """Name an element's id after the figure, as ids are a page's; give it the page's colours and font; be brief."""
    if element.text is not None and not element.text.strip():
        element.text = None
    element.tail = None
    for key, value in list(element.attrib.items()):
        if key == "id":
            element.set(key, f"{name}-{value}")
        elif key == f"{{{XLINK}}}href":
            del element.attrib[key]
            element.set("href", f"#{name}-{value.removeprefix('#')}")
        elif key == "style":
            element.set(key, _styled(value))
        elif key in ("d", "x", "y", "transform"):
            element.set(key, re.sub(r"(\.\d)\d+", r"\1", " ".join(value.split())))
        elif "url(#" in value:
            element.set(key, value.replace("url(#", f"url(#{name}-"))


def _styled(value: str) -> str:
    for variable, colour in VARIABLES.items():
        value = value.replace(colour, f"var(--{variable})")
    return re.sub(r"font-family: [^;]*;? ?", "", re.sub(r"font: (\d[\d.]*px) [^;]*", r"font-size: \1", value))
