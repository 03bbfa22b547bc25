"""An inspection on the terminal: a table that fits it, paths whole."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from compress_jax.inspect import columns, orbax, texts
from compress_jax.inspect.diff import Diff
from compress_jax.inspect.lineage import depth_first
from compress_jax.inspect.reader import Inspection

_FIRST_TO_GO = ("share", "scale_max", "block_sparsity", "nonzero_bytes", "gzip_bytes", "dtype",
                "dense_bytes", "val_accuracy")
_LAST_TO_GO = ("packed_bytes", "artifact_bytes")
Cells = Sequence[Sequence[str]]
_KINDS = {"stage": "a stage", "checkpoint": "a checkpoint", "artifact": "a deployable file",
          "orbax": "an Orbax checkpoint without a manifest (--html or --check reads its weights)"}


def show(found: Inspection, leaves: Sequence[columns.Row], stages: Sequence[columns.Row],
         diff: Diff | None, sort: str | None = None) -> None:
  """Prints all there is to say.

  Args:
    found: the inspection.
    leaves: rows to show.
    stages: of a workdir.
    diff: what is compared, or None.
    sort: the field that rows are in the order of, which is shown on narrow terminals too.
  """
  say(f"{found.name}: {_sentence(found)}")
  if diff is not None:
    _show_diff(diff, sort)
  elif leaves:
    _show_leaves(found, leaves, sort)
  if found.metadata and found.what == "artifact":
    say(f"metadata  {json.dumps(found.metadata, sort_keys=True)}")
  if stages:
    table("stages", stages, columns.fields_of(stages, columns.STAGE), sort)
  _show_lineage(found)
  show_problems(found)


def show_problems(found: Inspection) -> None:
  """Prints what is damaged, and what could not be read or measured.

  Args:
    found: the inspection.
  """
  for line in found.unmeasured:
    say(f"not measured: {line}")
  for line in found.unread:
    say(f"not read: {line}")
  for failure in found.failures:
    say(f"damaged: {failure}")


def _sentence(found: Inspection) -> str:
  if found.what == "workdir":
    return f"a workdir of {len(found.stages)} stages"
  sentence = f"{_KINDS[found.what]} of {len(found.leaves)} leaves"
  if found.what == "stage" and found.stage and found.stage.metrics is None:
    sentence += f", {', '.join(columns.key_numbers(found.stage))}"
  return sentence + (orbax.said(found.metadata) if found.what == "orbax" else "")


def _show_leaves(found: Inspection, leaves: Sequence[columns.Row], sort: str | None) -> None:
  first = ("stage", *columns.LEAF) if found.what == "workdir" else columns.LEAF
  known = columns.fields_of(leaves, first)
  table("leaves", leaves, [field for field in first if field in known], sort)
  if not found.leaves:  # a workdir's totals are in the table of its stages
    return
  totals = {name: value for name, value in found.totals.items() if value is not None}
  said = [f"{columns.heading(name)} {columns.text(name, totals)}" for name in totals]
  # The rows may be a choice; the totals never are.
  count = len(found.leaves)
  label = "total" if len(leaves) == count else f"total of all {count} leaves"
  say(f"{label}  " + "  ".join(said))


def _show_lineage(found: Inspection) -> None:
  """Prints the stages as a tree; their specifications only where they are few."""
  if found.what == "workdir":
    stages = [inspection.stage for inspection in found.stages if inspection.stage]
  else:
    stages = list(found.lineage)
  if not stages:
    return
  say("lineage")
  key_numbers = columns.told_apart(stages)
  for depth, stage in depth_first(stages):
    indent = "  " * depth
    say(f"{indent}{stage.id}  {', '.join(key_numbers[stage.id])}")
    if found.what != "workdir":
      numbers = [f"{columns.heading(name)} {texts.number(name, value)}"
                 for name, value in stage.numbers.items()]
      say(f"{indent}  metrics  {', '.join(numbers)}")
      say(f"{indent}  spec  {json.dumps(stage.spec, sort_keys=True)}")


def _show_diff(diff: Diff, sort: str | None) -> None:
  table(f"{diff.before} → {diff.after}", diff.rows, columns.fields_of(diff.rows, columns.DIFF),
        sort)
  table("totals", columns.total_rows(diff.totals), columns.TOTAL)


def table(title: str, rows: Sequence[columns.Row], fields: Sequence[str],
          sort: str | None = None) -> None:
  """Prints rows under headings; on a terminal, the columns for which there is room.

  Args:
    title: above the table.
    rows: {field: value}.
    fields: the columns.
    sort: the field that rows are in the order of, or None.
  """
  # A file or pipe gets all of them.
  width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
  shown = fitting(rows, fields, width, sort)
  cells = [[columns.text(field, row) for field in shown] for row in rows]
  right = [columns.holds_numbers(field, rows) for field in shown]
  say(title)
  for line in plain_table([columns.heading(field) for field in shown], cells, right).split("\n"):
    say(line)
  left_out = [columns.heading(field) for field in fields if field not in shown]
  if left_out:
    say(f"(no room for: {', '.join(left_out)}; --json and a pipe have them)")


def fitting(rows: Sequence[columns.Row], fields: Sequence[str], width: int | None,
            sort: str | None = None) -> list[str]:
  """Returns the columns of a table for which there is room; a path is never broken.

  Args:
    rows: {field: value}.
    fields: the columns, as many as there are.
    width: of the terminal; None has room for all.
    sort: the field, or "-field", that rows are in the order of; it goes last.

  Example:
    >>> row = {"path": "stem/kernel", "bits": 8, "share": 0.5}
    >>> fitting([row], ["path", "bits", "share"], 20)
    ['path', 'bits']
  """
  widths = {field: max(len(columns.heading(field)), *(len(columns.text(field, row))
                                                       for row in rows)) for field in fields}
  kept = list(fields)
  asked = (sort or "").removeprefix("-")
  last = [*(field for field in _LAST_TO_GO if field != asked), asked]
  # First what follows from the others, or what few ask for; then from the right; at the end what
  # was asked for.
  going = [field for field in [*_FIRST_TO_GO, *reversed(kept)] if field not in last]
  for field in [*going, *last]:
    if field == fields[0]:
      continue  # it names the row
    if width is None or sum(widths[name] + 2 for name in kept) - 2 <= width:
      break
    if field in kept:
      kept.remove(field)
  return kept


def plain_table(headings: Sequence[str], cells: Cells, right: Sequence[bool]) -> str:
  """Returns columns aligned with spaces.

  Args:
    headings: one per column.
    cells: one line per row, one text per column.
    right: which columns are aligned on the right.

  Returns:
    Lines, without spaces at their ends.

  Example:
    >>> print(plain_table(["path", "bits"], [["stem/kernel", "8"]], [False, True]))
    path         bits
    stem/kernel     8
  """
  every = [headings, *cells]
  widths = [max(map(len, column)) for column in zip(*every, strict=True)]
  return "\n".join(_plain_line(line, widths, right) for line in every)


def _plain_line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
  padded = []
  for cell, width, is_right in zip(cells, widths, right, strict=True):
    padded.append(cell.rjust(width) if is_right else cell.ljust(width))
  return "  ".join(padded).rstrip()


@contextlib.contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], object]]:
  """Draws a progress bar on standard error, where that is a terminal and rich is installed.

  Args:
    label: in front of the bar.

  Yields:
    A function of what is done and of all there is, to call on the way.
  """
  # rich is no dependency of the library, and nothing is lost without it but looks.
  try:
    from rich.console import Console
    from rich.progress import Progress
  except ImportError:
    yield _ignore
    return
  console = Console(stderr=True)
  with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
    task = progress.add_task(label, total=None)

    def advance(done: int, total: int) -> None:
      progress.update(task, completed=done, total=total)

    yield advance


def _ignore(done: int, total: int) -> None:
  """Draws nothing."""


def say(line: str, file: TextIO | None = None) -> None:
  """Prints one line at once, also into a pipe; escapes take the place of what is not printed.

  Args:
    line: what to print.
    file: where to; None is standard output.
  """
  print(texts.printable(line), file=file, flush=True)
