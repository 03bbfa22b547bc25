"""Charts as inline SVG, drawn by pygal; the page's style sheet colors them, light or dark."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compress_jax.extras import need
from compress_jax.inspect.pictures import Histogram

FONT = 11  # pixels; pygal leaves room for such letters, and page.css writes them
# What pygal's own style sheet and script need, and a page that has its own does not:
# definitions, values for tooltips, and the rectangles behind charts and tooltips.
_UNUSED_TAGS = ("defs", "desc")
_UNUSED_CLASSES = ("background", "tooltip-overlay")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """A named point of a scatter chart.

  Attributes:
    x: its place from left to right.
    y: its place from the bottom up.
    name: shown beside it if it is on the front, else under the pointer.
    best: whether it is on the front, whose points are joined.
    link: the address that it leads to, or None.
    named: whether one of the front has its name beside it; else under the pointer.
  """

  x: float
  y: float
  name: str
  best: bool = False
  link: str | None = None
  named: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """A line over 1, 2, 3, …

  Attributes:
    name: its class in the page's style sheet: "training", "validation" or "loss".
    values: where they are not finite, the line has a gap.
  """

  name: str
  values: Sequence[float]


def histogram(made: Histogram, label: str) -> str:
  """Draws the weights before (filled) and after (outlined).

  Args:
    made: the counts.
    label: what is seen, for screen readers.

  Returns:
    An SVG element.

  Raises:
    ImportError: pygal is not installed.

  Example:
    >>> made = Histogram(low=0.0, high=1.0, before=None, after=(0.5, 0.25), zeros=(None, 0.25))
    >>> drawn = histogram(made, "two intervals")
    >>> 'class="after"' in drawn, 'class="before"' in drawn
    (True, False)
  """
  chart = _chart("histogram", 320, 110, show_dots=False, show_y_labels=False, include_x_axis=True,
                 x_labels=_histogram_labels(made), margin=4, spacing=2)
  for name, counts in (("before", made.before), ("after", made.after)):
    if counts is not None:
      chart.add(name, _steps(made.low, made.high, counts), fill=True)
  return _drawn(chart, label)


def _histogram_labels(made: Histogram) -> list[dict[str, Any]]:
  values = [made.low, made.high]
  # Nearer to an end, the zero would be written over that end's number.
  margin = 0.15 * (made.high - made.low)
  if made.low + margin < 0 < made.high - margin:
    values.insert(1, 0.0)
  return [{"value": value, "label": f"{value:.3g}"} for value in values]


def _steps(low: float, high: float, counts: Sequence[float]) -> list[tuple[float, float]]:
  """Returns the corners of a histogram's outline.

  Example:
    >>> _steps(0.0, 2.0, [5.0, 7.0])
    [(0.0, 5.0), (1.0, 5.0), (1.0, 7.0), (2.0, 7.0)]
  """
  edges = np.linspace(low, high, len(counts) + 1)
  x = np.repeat(edges, 2)[1:-1].tolist()
  y = np.repeat(np.asarray(counts, np.float64), 2).tolist()
  return list(zip(x, y, strict=True))


def scatter(points: Sequence[Point], *, x_label: str, y_label: str, label: str,
            log: bool = False) -> str:
  """Draws points, and a line through the best ones, which have their names beside them.

  Args:
    points: at least one.
    x_label: under the x axis.
    y_label: beside the y axis.
    label: what is seen, for screen readers.
    log: whether x, which must then be positive, is drawn by its logarithm.

  Returns:
    An SVG element.

  Raises:
    ImportError: pygal is not installed.

  Example:
    >>> point = Point(x=1.0, y=2.0, name="a", best=True)
    >>> scatter([point], x_label="x", y_label="y", label="one").count("<circle")
    1
  """
  # pygal's own logarithmic scale is for both axes; one alone is drawn by its logarithms.
  scale = math.log10 if log else float
  low, high = min(point.y for point in points), max(point.y for point in points)
  chart = _chart("scatter", 720, 400, x_title=x_label, y_title=y_label, dots_size=4,
                 print_labels=True, show_x_guides=True, min_scale=3, max_scale=8,
                 margin=12, spacing=8,
                 # Room for the names of the last point, of the highest and of the lowest.
                 margin_right=100, margin_top=40, range=(low - 0.12 * (high - low), high),
                 x_labels=_decades([point.x for point in points]) if log else None)
  best = sorted((point for point in points if point.best), key=lambda point: point.x)
  best = _without_near_names(best, points, scale)
  rest = [point for point in points if not point.best]
  # Drawn first, the others never hide one of the front.
  chart.add("others", [_mark(point, scale) for point in rest], stroke=False)
  chart.add("front", [_mark(point, scale) for point in best])
  return _drawn(chart, label, role="group")  # an image would hide its links from screen readers


def _without_near_names(best: Sequence[Point], points: Sequence[Point],
                        scale: Callable[[float], float]) -> list[Point]:
  """Returns the front's points; of two that are nearer than a name is large, one is named."""
  places = [(scale(point.x), point.y) for point in points]
  spans = [max(values) - min(values) or 1.0 for values in zip(*places, strict=True)]
  made: list[Point] = []
  named: list[tuple[float, float]] = []
  for point in best:
    x, y = scale(point.x) / spans[0], point.y / spans[1]
    if any(abs(x - left) < 0.12 and abs(y - low) < 0.04 for left, low in named):
      made.append(dataclasses.replace(point, named=False))
      continue
    named.append((x, y))
    made.append(point)
  return made


def _mark(point: Point, scale: Callable[[float], float]) -> dict[str, Any]:
  """Returns a point as pygal wants it."""
  shown = point.name if point.best and point.named else ""
  mark = {"value": (scale(point.x), point.y), "label": shown,
          "tooltip": f"{point.name}: {point.x:,g}, {point.y:g}"}
  if point.link is not None:
    mark["xlink"] = {"href": point.link}
  return mark


def _decades(values: Sequence[float]) -> list[dict[str, Any]]:
  """Returns the ticks of a logarithmic axis: 1, 2 and 5 times each power of ten in reach.

  Example:
    >>> [tick["label"] for tick in _decades([30.0, 400.0])]
    ['20', '50', '100', '200', '500']
  """
  low, high = min(values), max(values)
  first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
  round_numbers = []
  for power in range(first, last + 2):
    round_numbers += [factor * 10.0**power for factor in (1, 2, 5)]
  # From the last one below all values to the first one above.
  start = max(number for number in round_numbers if number <= low)
  end = min(number for number in round_numbers if number >= high)
  return [{"value": math.log10(number), "label": f"{number:,g}"}
          for number in round_numbers if start <= number <= end]


def lines(curves: Sequence[Line], label: str) -> str:
  """Draws lines over their numbers from 1, all on the one scale that spans them.

  Args:
    curves: each with at least one value.
    label: what is seen, for screen readers.

  Returns:
    An SVG element.

  Raises:
    ImportError: pygal is not installed.

  Example:
    >>> drawn = lines([Line(name="loss", values=[2.0, 1.0])], "loss")
    >>> 'class="loss"' in drawn, drawn.count("<circle")
    (True, 0)
  """
  count = max(len(curve.values) for curve in curves)
  ends = [{"value": number, "label": str(number)} for number in sorted({1, count})]
  chart = _chart("lines", 320, 150, x_labels=ends, min_scale=3, max_scale=6, margin=4, spacing=2,
                 margin_right=10, allow_interruptions=True, no_data_text="no finite value")
  for curve in curves:
    places = [(number, value if math.isfinite(value) else None)
              for number, value in enumerate(curve.values, 1)]
    # A line of one value has no length: only a dot is seen.
    chart.add(curve.name, places, show_dots=count == 1)
  return _drawn(chart, label)


def _chart(css: str, width: int, height: int, **options: Any) -> Any:
  """Returns an empty chart that links neither a script nor a style sheet."""
  pygal = need("pygal", "html")
  style = need("pygal.style", "html").Style(
      **{f"{part}_font_size": FONT for part in ("label", "title", "value", "value_label",
                                                "no_data")})
  # By default pygal links a script from its own site, and shortens labels.
  return pygal.XY(classes=[css], width=width, height=height, style=style, js=[], css=[],
                  no_prefix=True, disable_xml_declaration=True, show_legend=False,
                  truncate_label=-1, value_formatter=_number, **options)


def _number(value: float) -> str:
  """Returns a number beside an axis, which is round but where all values are equal."""
  return f"{value:.4g}"


def _drawn(chart: Any, label: str, role: str = "img") -> str:
  """Returns a chart as SVG that the page's own style sheet applies to."""
  names = [options["title"] for _, options in chart.raw_series]

  def finish(root: Any) -> Any:
    root.attrib.pop("id", None)
    root.set("role", role)
    root.set("aria-label", label)
    _name_series(root, names)
    _round_paths(root)
    _prune(root)
    return root

  chart.add_xml_filter(finish)
  return chart.render()


def _name_series(root: Any, names: Sequence[str]) -> None:
  """Gives each series its name as its class, where pygal numbers them."""
  classes = {f"series serie-{number} color-{number}": name for number, name in enumerate(names)}
  for group in root.iter("g"):
    if group.get("class") in classes:
      group.set("class", classes[group.get("class")])


def _round_paths(root: Any) -> None:
  """Cuts coordinates to a tenth of a pixel, which halves a histogram's bytes."""
  for path in root.iter("path"):
    path.set("d", re.sub(r"(\.\d)\d+", r"\1", path.get("d")))


def _prune(root: Any) -> None:
  """Removes what the page does not use, and groups that are empty then."""
  # From the leaves up, so that a group is looked at after what was in it.
  for parent in reversed(list(root.iter())):
    for child in list(parent):
      if _is_unused(child) or (child.tag == "title" and _is_mere_title(parent, root)):
        parent.remove(child)


def _is_mere_title(parent: Any, root: Any) -> bool:
  """Tells whether a title repeats the label, or a tick (of a logarithmic axis, its logarithm)."""
  return parent is root or parent.get("class") == "guides"


def _is_unused(node: Any) -> bool:
  if not isinstance(node.tag, str):  # a comment, with the day's date in it
    return True
  if node.tag in _UNUSED_TAGS or (node.tag == "g" and len(node) == 0):
    return True
  return bool(set(_UNUSED_CLASSES) & set(node.get("class", "").split()))
