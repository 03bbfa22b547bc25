"""The command line: `python -m compress_jax.inspect PATH`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from compress_jax.inspect import columns, diff, document, reader, terminal, view


class _Parser(argparse.ArgumentParser):
  """Tells of an error in one line."""

  def error(self, message: str) -> NoReturn:
    self.exit(2, f"inspect: {message} (--help tells more)\n")


def parser() -> argparse.ArgumentParser:
  """Returns what reads the command line."""
  made = _Parser(prog="python -m compress_jax.inspect", description=(
      "Shows what a stage, a checkpoint, a workdir or an artifact holds. Metadata is read, not "
      "weights, unless --html, --diff or --check asks for them."))
  made.add_argument("path", metavar="PATH", help="a stage's directory, a checkpoint (Orbax's own "
                    "too), a workdir, or an artifact")
  made.add_argument("--json", action="store_true", help="print one JSON document")
  made.add_argument("--html", metavar="FILE", help="write one page that needs no network: "
                    "sortable tables, weight histograms, masks, lineage")
  made.add_argument("--diff", metavar="OTHER", help="compare with what was before: sizes, "
                    "sparsity, relative weight change, accuracy")
  made.add_argument("--layers", metavar="REGEX", help="only leaves whose path it is found in")
  made.add_argument("--sort", metavar="FIELD", help="numbers from the largest, texts from A; "
                    "--sort=-FIELD the other way round")
  made.add_argument("--check", action="store_true", help="read every array and compare checksums")
  return made


def main(argv: list[str] | None = None) -> int:
  """Runs the command.

  Args:
    argv: arguments; None takes the process's.

  Returns:
    The exit status: 0, 1 where something is damaged, 2 for what cannot be done.
  """
  options = parser().parse_args(argv)
  try:
    return _run(options)
  except BrokenPipeError:  # `| head` has seen enough
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return 0
  except (ValueError, OSError) as error:
    print(f"inspect: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _run(options: argparse.Namespace) -> int:
  with terminal.bar("reading") as progress:
    found = reader.read(options.path, progress=progress)
  other = reader.read(options.diff) if options.diff else None
  if options.check:
    found = reader.check(found)
  page = Path(options.html) if options.html else None
  if page and not page.absolute().parent.is_dir():
    raise ValueError(f"--html={page}: {page.absolute().parent} is no directory")
  single = found.what != "workdir"
  params = None
  if single and found.leaves and not found.failures and (page or other or options.check):
    found, params = _weighed(found)
  compared = _compared(found, params, other) if other else None
  leaves, stages, compared = _rows(found, options, compared)
  place = {row["stage"]: number for number, row in enumerate(stages)}
  found = dataclasses.replace(found, stages=tuple(
      sorted(found.stages, key=lambda s: place.get(s.name, -1))))
  if page:
    page.write_text(_page(found, leaves, stages, params, other, compared), "utf-8")
  if options.json:
    chosen = leaves if options.layers or options.sort else None
    print(json.dumps(document.document(found, chosen, compared), indent=1, allow_nan=False))
  elif page:
    terminal.say(f"written: {page}")
    for failure in found.failures:
      terminal.say(f"damaged: {failure}")
  else:
    terminal.show(found, leaves if single or options.layers else [], stages, compared)
  return 1 if found.failures else 0


def _weighed(found: reader.Inspection) -> tuple[reader.Inspection, Any]:
  """Returns the inspection with what the weights tell, and them; or with why they cannot."""
  try:
    params = reader.tree_of(found)
  except reader.InspectError as error:
    return dataclasses.replace(found, failures=(*found.failures, str(error))), None
  return reader.measured(found, params), params


def _compared(found: reader.Inspection, params: Any, other: reader.Inspection) -> diff.Diff:
  for side in (other, found):
    if side.failures:
      raise ValueError(f"{side.path}: damaged ({side.failures[0]})")
  earlier = reader.tree_of(other) if other.what != "workdir" else None
  before = reader.measured(other, earlier) if earlier is not None else other
  return diff.compare(before, found, earlier, params)


Rows = list[columns.Row]


def _rows(found: reader.Inspection, options: argparse.Namespace,
          compared: diff.Diff | None) -> tuple[Rows, Rows, diff.Diff | None]:
  """Returns leaves, stages and differences, chosen by --layers and sorted by --sort."""
  leaves = columns.filtered(columns.leaf_rows(found), options.layers)
  stages = columns.stage_rows(found)
  changes = columns.filtered(compared.rows, options.layers) if compared else []
  # A workdir's leaves are listed only where --layers asks for them.
  first = ["stage", *columns.LEAF] if found.what == "workdir" else columns.LEAF
  listed = not stages or options.layers is not None
  tables = [(stages, columns.fields_of(stages, columns.STAGE)),
            (changes, columns.DIFF if compared else []), (leaves, first if listed else [])]
  known = list(dict.fromkeys(name for _, fields in tables for name in fields))
  columns.ordered([], options.sort, known)  # refuses what no table has
  done = []
  for rows, fields in tables:
    has = options.sort is not None and options.sort.removeprefix("-") in fields
    done.append(columns.ordered(rows, options.sort, fields) if has else rows)
  changed = compared and dataclasses.replace(compared, rows=tuple(done[1]))
  return done[2], done[0], changed


def _page(found: reader.Inspection, leaves: Rows, stages: Rows, params: Any,
          other: reader.Inspection | None, compared: diff.Diff | None) -> str:
  if found.what == "workdir":
    return view.workdir_page(found, stages, leaves)
  earlier = other or reader.parent(found)
  weights = _weighed(earlier)[1] if params is not None and earlier else None
  before = (earlier.name, weights) if earlier and weights is not None else None
  return view.checkpoint_page(found, leaves, params, before=before, diff=compared)


if __name__ == "__main__":
  sys.exit(main())
