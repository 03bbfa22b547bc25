"""Main effects and interactions of the four techniques, from the sixteen combinations."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.reporting.paper_tables import lines

Row = Mapping[str, Any]
TECHNIQUES = ("kd", "imp", "lrtf", "q")

_INTRODUCTION = (
    "A technique's effect is its mean change over the eight combinations of the others; an "
    "interaction is how much both together change beyond what each changes alone, the mean over "
    "the four combinations of the others. Points of test accuracy: an interaction above 0 means "
    "that both together lose less than each alone suggests, by so much. Of the file's size, in "
    "factors of 2: -1 halves it; an interaction above 0 means that both together save less than "
    "the product of what each saves.")


def text(rows: Sequence[Row]) -> str:
  """Returns both tables as Markdown, "" unless all sixteen combinations are there.

  Args:
    rows: of results.csv, of one or more seeds.
  """
  seeds = [_by_techniques(rows, seed) for seed in sorted({row["seed"] for row in rows})]
  if any(len(found) < 2 ** len(TECHNIQUES) for found in seeds):
    return ""
  table = [["effect of", "test accuracy, points", "file, factors of 2"]]
  for names in (*itertools.combinations(TECHNIQUES, 1), *itertools.combinations(TECHNIQUES, 2)):
    table.append([" × ".join(names), _summary(seeds, names, _points),
                  _summary(seeds, names, _factors)])
  return f"\n## Effects and interactions\n\n{_INTRODUCTION}\n\n{lines(table)}"


def effect(found: Mapping[frozenset[str], Row], names: Sequence[str],
           measure: Callable[[Row], float]) -> float:
  """Returns the effect of a technique, or the interaction of two.

  Args:
    found: {techniques: row} of all combinations of `TECHNIQUES`.
    names: one technique, or two.
    measure: of a row.

  Source: two-level factorial designs, Box, Hunter and Hunter 2005, chapter 5, which divides
  interactions by two once more.

  Example:
    >>> found = {frozenset(names): {"y": 2.0 * ("q" in names) + 3.0 * ("kd" in names)}
    ...          for n in range(5) for names in itertools.combinations(TECHNIQUES, n)}
    >>> measure = lambda row: row["y"]
    >>> effect(found, ["q"], measure), effect(found, ["kd", "q"], measure)
    (2.0, 0.0)
    >>> effect(found, ["kd", "q"], lambda row: 1.0 * (row["y"] == 5))
    1.0
  """
  total = 0.0
  for techniques, row in found.items():
    # Plus where all or an even number of the names are missing, minus elsewhere.
    missing = sum(name not in techniques for name in names)
    total += measure(row) * (-1) ** missing
  return total / (len(found) / 2 ** len(names))


def _by_techniques(rows: Sequence[Row], seed: int) -> dict[frozenset[str], Row]:
  """Returns the sixteen combinations of one seed by what is combined."""
  found = {}
  for row in rows:
    techniques = frozenset(row["combo"].split("+")) - {"base"}
    if row["seed"] == seed and techniques <= set(TECHNIQUES):
      found[techniques] = row
  return found


def _points(row: Row) -> float:
  return 100 * row["test_accuracy"]


def _factors(row: Row) -> float:
  return math.log2(row["artifact_bytes"])


def _summary(seeds: Sequence[Mapping[frozenset[str], Row]], names: Sequence[str],
             measure: Callable[[Row], float]) -> str:
  """Returns the mean over seeds, with the standard deviation where there are several."""
  values = [effect(found, names, measure) for found in seeds]
  # Rounded first: what is nearly 0 is written without a minus.
  mean = f"{round(statistics.mean(values), 2) + 0.0:+.2f}"
  return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"
