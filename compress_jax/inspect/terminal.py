"""An inspection on the terminal: through rich where that is installed, else plain."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from compress_jax.inspect import columns
from compress_jax.inspect.diff import Diff
from compress_jax.inspect.lineage import Stage, depth_first
from compress_jax.inspect.reader import Inspection

Cells = Sequence[Sequence[str]]


def show(found: Inspection, leaves: Sequence[columns.Row], stages: Sequence[columns.Row],
         diff: Diff | None) -> None:
  """Prints all there is to say.

  Args:
    found: the inspection.
    leaves: rows to show.
    stages: of a workdir.
    diff: what is compared, or None.
  """
  say(f"{found.name}: {_sentence(found)}")
  if diff:
    _show_diff(diff)
  elif leaves:
    first = ("stage", *columns.LEAF) if found.what == "workdir" else columns.LEAF
    table("leaves", leaves, [f for f in first if f in columns.fields_of(leaves, first)])
    _show_totals(found)
  if stages:
    table("stages", stages, columns.fields_of(stages, columns.STAGE))
  lineage = [s.stage for s in found.stages if s.stage] or list(found.lineage)
  if lineage:
    say("lineage")
    for depth, stage in depth_first(lineage):
      say("\n".join(_about(stage, "  " * depth, full=found.what != "workdir")))
  for failure in found.failures:
    say(f"damaged: {failure}")


def _sentence(found: Inspection) -> str:
  if found.what == "workdir":
    return f"a workdir of {len(found.stages)} stages"
  kinds = {"stage": "a stage", "checkpoint": "a checkpoint", "artifact": "a deployable file",
           "orbax": "an Orbax checkpoint without a manifest (--html or --check reads its weights)"}
  running = found.what == "stage" and found.stage and found.stage.metrics is None
  return f"{kinds[found.what]} of {len(found.leaves)} leaves{', not complete' * bool(running)}"


def _about(stage: Stage, indent: str, full: bool) -> list[str]:
  lines = [f"{indent}{stage.id}  {', '.join(columns.key_numbers(stage))}"]
  if full:
    numbers = (f"{columns.heading(k)} {columns.number(k, v)}" for k, v in stage.numbers.items())
    lines += [f"{indent}  metrics  {', '.join(numbers)}",
              f"{indent}  spec  {json.dumps(stage.spec, sort_keys=True)}"]
  return lines


def _show_totals(found: Inspection) -> None:
  shown = {k: v for k, v in found.totals.items() if v is not None} if found.leaves else {}
  if shown:
    say("total  " + "  ".join(f"{columns.heading(k)} {columns.text(k, shown)}" for k in shown))


def _show_diff(diff: Diff) -> None:
  table(f"{diff.before} → {diff.after}", diff.rows, columns.fields_of(diff.rows, columns.DIFF))
  rows = [{"total": columns.heading(k), "before": columns.text(k, {k: a}),
           "after": columns.text(k, {k: b})} for k, (a, b) in diff.totals.items()]
  table("totals", rows, ("total", "before", "after"))


def table(title: str, rows: Sequence[columns.Row], fields: Sequence[str]) -> None:
  """Prints rows under headings."""
  cells = [[columns.text(f, row) for f in fields] for row in rows]
  right = [any(isinstance(row.get(f), int | float) for row in rows) for f in fields]
  headings = [columns.heading(f) for f in fields]
  if not (sys.stdout.isatty() and _rich_table(title, headings, cells, right)):
    say(title)
    say(plain_table(headings, cells, right))


def plain_table(headings: Sequence[str], cells: Cells, right: Sequence[bool]) -> str:
  """Returns columns aligned with spaces.

  Example:
    >>> print(plain_table(["path", "bits"], [["stem/kernel", "8"]], [False, True]))
    path         bits
    stem/kernel     8
  """
  every = [headings, *cells]
  widths = [max(len(line[i]) for line in every) for i in range(len(headings))]
  return "\n".join("  ".join(
      cell.rjust(w) if r else cell.ljust(w)
      for cell, w, r in zip(line, widths, right, strict=True)).rstrip() for line in every)


@contextlib.contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], object]]:
  """Draws a progress bar on standard error, where that is a terminal and rich is installed.

  Args:
    label: in front of the bar.

  Yields:
    A function of what is done and of all there is, to call on the way.
  """
  try:
    from rich.console import Console
    from rich.progress import Progress
  except ImportError:
    yield lambda done, total: None
    return
  console = Console(stderr=True)
  with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
    task = progress.add_task(label, total=None)
    yield lambda done, total: progress.update(task, completed=done, total=total)


def _rich_table(title: str, headings: Sequence[str], cells: Cells, right: Sequence[bool]) -> bool:
  """Prints a table and returns True, or False where rich is not installed."""
  try:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
  except ImportError:
    return False
  grid = Table(title=title, title_justify="left")
  for name, is_right in zip(headings, right, strict=True):
    grid.add_column(name, justify="right" if is_right else "left", overflow="fold")
  for line in cells:
    grid.add_row(*map(Text, line))  # as text: names may hold [brackets]
  Console().print(grid)
  return True


def say(line: Any) -> None:
  """Prints a line."""
  print(line, flush=True)
