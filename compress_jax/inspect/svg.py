"""Charts as inline SVG; colours come from the page, so that they fit light and dark."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from html import escape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
  """Weights, counted.

  Attributes:
    low: where the first interval starts.
    high: where the last one ends.
    before: fraction of all weights in each interval, or None.
    after: likewise.
    zeros: fractions of exact zeros, before and after; not in any interval.
  """

  low: float
  high: float
  before: tuple[float, ...] | None
  after: tuple[float, ...] | None
  zeros: tuple[float | None, float | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """A named point of a scatter chart; `best` is drawn as part of the front."""

  x: float
  y: float
  name: str
  best: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """A named line: a value for 1, 2, 3, …; `css` is "train", "held" or "loss"."""

  name: str
  values: Sequence[float]
  css: str


def histogram(made: Histogram, label: str) -> str:
  """Draws the weights before (filled grey) and after (outlined).

  Args:
    made: the counts.
    label: what is seen, for those who hear the page.

  Returns:
    An SVG element.
  """
  width, height, bottom = 320, 110, 92
  top = max([*(made.before or ()), *(made.after or ()), 1e-12])
  x_of = lambda value: width * (value - made.low) / (made.high - made.low)
  out = [_open(width, height, label)]
  for css, counts in (("before", made.before), ("after", made.after)):
    if counts:
      step = width / len(counts)
      heights = [bottom - (bottom - 6) * c / top for c in counts]
      steps = " ".join(f"L{i * step:.1f} {y:.1f}H{(i + 1) * step:.1f}"
                       for i, y in enumerate(heights))
      out.append(f'<path class="{css}" d="M0 {bottom}{steps}V{bottom}Z"/>')
  out.append(f'<path class="axis" d="M0 {bottom}H{width}"/>')
  if made.low < 0 < made.high:
    out.append(f'<path class="axis" d="M{x_of(0):.1f} {bottom}v4"/>')
    if 40 < x_of(0) < width - 40:
      out.append(_text(x_of(0), height - 4, "0", "middle"))
  out += [_text(0, height - 4, f"{made.low:.3g}"),
          _text(width, height - 4, f"{made.high:.3g}", "end")]
  return "".join(out) + "</svg>"


def scatter(points: Sequence[Point], *, x_label: str, y_label: str, label: str,
            log: bool = False) -> str:
  """Draws named points, and a line through the best ones.

  Args:
    points: at least one.
    x_label: under the x axis.
    y_label: over the y axis.
    label: what is seen, for those who hear the page.
    log: whether x is drawn by its logarithm.

  Returns:
    An SVG element.

  Example:
    >>> point = Point(x=1.0, y=2.0, name="a", best=True)
    >>> scatter([point], x_label="x", y_label="y", label="one").count("<circle")
    1
  """
  width, height, left, bottom, top = 720, 400, 56, 352, 26
  scale = math.log10 if log else float
  x_of, x_ticks = _axis([p.x for p in points], left, width - 12, scale)
  y_of, y_ticks = _axis([p.y for p in points], bottom, top, float)
  out = [_open(width, height, label)]
  for value in y_ticks:
    out.append(f'<path class="axis" d="M{left} {y_of(value):.1f}H{width - 12}"/>')
    out.append(_text(left - 6, y_of(value) + 4, f"{value:g}", "end"))
  for value in x_ticks:
    out.append(f'<path class="axis" d="M{x_of(value):.1f} {top}V{bottom}"/>')
    # A number in the middle of the right edge would be cut.
    place = (width - 2, "end") if x_of(value) > width - 24 else (x_of(value), "middle")
    out.append(_text(place[0], bottom + 16, f"{value:,g}", place[1]))
  out += [_text((left + width) / 2, height - 8, x_label, "middle"), _text(left, 12, y_label)]
  front = sorted((p for p in points if p.best), key=lambda p: p.x)
  out.append('<path class="front" d="M' + "L".join(
      f"{x_of(p.x):.1f} {y_of(p.y):.1f}" for p in front) + '"/>' if front else "")
  placed = [(x_of(p.x), y_of(p.y)) for p in points]
  frame = (left, top, width, bottom)
  for p, (x, y), (tx, ty) in zip(points, placed, _labels(points, placed, frame), strict=True):
    out.append(f'<path class="leader" d="M{x:.1f} {y:.1f}L{tx:.1f} {ty:.1f}"/>')
    out.append(f'<circle class="dot{" best" * p.best}" cx="{x:.1f}" cy="{y:.1f}" r="4">'
               f"<title>{escape(p.name)}: {p.x:,g}, {p.y:g}</title></circle>")
    out.append(f'<text class="name" x="{tx:.1f}" y="{ty + 4:.1f}" text-anchor="middle">'
               f"{escape(p.name)}</text>")
  return "".join(out) + "</svg>"


def lines(curves: Sequence[Line], label: str) -> str:
  """Draws lines over their numbers from 1, all on the one scale that spans them.

  Args:
    curves: each with at least one value.
    label: what is seen, for those who hear the page.

  Returns:
    An SVG element.

  Example:
    >>> lines([Line(name="loss", values=[2.0, 1.0], css="loss")], "loss").count("<path")
    4
  """
  width, height, left, bottom = 320, 150, 34, 128
  y_of, ticks = _axis([v for c in curves for v in c.values if math.isfinite(v)] or [0.0],
                      bottom, 8, float, wanted=3)
  count = max(len(c.values) for c in curves)
  x_of = lambda i: left + (width - left - 6) * ((i - 1) / (count - 1) if count > 1 else 0.5)
  out = [_open(width, height, label)]
  for value in ticks:
    out.append(f'<path class="axis" d="M{left} {y_of(value):.1f}H{width}"/>')
    out.append(_text(left - 4, y_of(value) + 4, f"{value:g}", "end"))
  out += [_text(x_of(1), height - 6, "1", "middle" if count > 1 else "end"),
          _text(x_of(count), height - 6, f"{count}", "end")]
  for curve in curves:
    spots = [(x_of(i), y_of(v)) for i, v in enumerate(curve.values, 1) if math.isfinite(v)]
    drawn = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
    # One epoch is a dot: a line without length would not be seen.
    dot = ' style="stroke-width: 6"' * (len(spots) == 1)
    out.append(f'<path class="line {curve.css}" stroke-linecap="round"{dot} d="M{drawn}h.01">'
               f"<title>{escape(curve.name)}</title></path>" if spots else "")
  return "".join(out) + "</svg>"


def _open(width: int, height: int, label: str) -> str:
  return (f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">')


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
  return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _axis(values: Sequence[float], first: float, last: float, scale: Callable[[float], float],
          wanted: int = 6) -> tuple[Callable[[float], float], list[float]]:
  """Returns the place of a value between `first` and `last`, and round values within."""
  low, high = scale(min(values)), scale(max(values))
  margin = 0.06 * (high - low) or abs(low) * 0.1 or 1.0
  low, high = low - margin, high + margin
  place = lambda value: first + (last - first) * (scale(value) - low) / (high - low)
  if scale is math.log10:
    rounds = [m * 10.0 ** e for e in range(math.floor(low), math.ceil(high) + 1)
              for m in (1, 2, 5)]
    return place, [v for v in rounds if low <= math.log10(v) <= high]
  return place, ticks(low, high, wanted)


def ticks(low: float, high: float, wanted: int) -> list[float]:
  """Returns about so many round numbers in an interval.

  Example:
    >>> ticks(0.0, 1.0, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
  """
  rough = (high - low) / wanted
  unit = 10.0 ** math.floor(math.log10(rough))
  step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough * 0.999)
  first = math.ceil(low / step - 1e-9)
  return [float(f"{i * step:.12g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _labels(points: Sequence[Point], placed: Sequence[tuple[float, float]],
            frame: tuple[float, float, float, float]) -> list[tuple[float, float]]:
  """Returns the middle of each name: the nearest place around its point that is free."""
  taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in placed]
  apart = lambda a, b: a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
  found = {}
  for i in sorted(range(len(points)), key=lambda i: placed[i]):
    half = 3.2 * len(points[i].name) + 3  # 11-pixel letters are about 6.4 wide
    x, y = placed[i]
    for r in range(4, 130, 6):
      moves = [(2 * math.pi * k / 24) for k in range(24)]
      spots = [(x + (half + r) * math.cos(a), y + (8 + r) * math.sin(a)) for a in moves]
      boxes = [(tx - half, ty - 7, tx + half, ty + 7) for tx, ty in spots]
      free = [(s, b) for s, b in zip(spots, boxes, strict=True)
              if b[0] >= frame[0] and b[2] <= frame[2] and b[1] >= frame[1] and b[3] <= frame[3]
              and all(apart(b, t) for t in taken)]
      if free:
        found[i], box = free[0]
        taken.append(box)
        break
    else:
      found[i] = (x, y - 12)
  return [found[i] for i in range(len(points))]
