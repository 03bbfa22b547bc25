"""The command line: `python -m compress_jax.inspect PATH`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from compress_jax.extras import need
from compress_jax.inspect import (
  checking,
  columns,
  diff,
  document,
  page,
  reader,
  terminal,
  texts,
  view,
)
from compress_jax.io import files


class _Parser(argparse.ArgumentParser):
  """Tells of an error in one line, where argparse prints all the usage first."""

  def error(self, message: str) -> NoReturn:
    # Exit status 2, as for all that cannot be done.
    self.exit(2, texts.printable(f"inspect: {message} (--help tells more)") + "\n")


def parser() -> argparse.ArgumentParser:
  """Returns what reads the command line.

  Returns:
    A parser that exits with status 2 and one line where arguments are wrong.
  """
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
    The exit status: 0, also where a leaf is too large to be measured; 1 where something is
    damaged; 2 for what cannot be done or read, as what another version wrote.
  """
  for stream in (sys.stdout, sys.stderr):
    if isinstance(stream, io.TextIOWrapper):
      stream.reconfigure(errors="backslashreplace")  # not every terminal has all letters
  options = parser().parse_args(argv)
  try:
    return _run(options)
  except BrokenPipeError:  # `| head` has seen enough
    # Else Python complains when it flushes the pipe at its end.
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return 0
  except (ValueError, OSError, ImportError, RecursionError, MemoryError) as error:
    said = " ".join(str(error).split()) or type(error).__name__
    terminal.say(f"inspect: {said}", sys.stderr)
    return 2


def _run(options: argparse.Namespace) -> int:
  file = _page_file(options)
  with terminal.bar("reading") as progress:
    found = reader.read(options.path, progress=progress)
  other = reader.read(options.diff) if options.diff else None
  if options.check:
    found = checking.check(found)
  if other is not None:
    _check_comparable(other, found)
  params = None
  # Reading weights takes longest, so they are read only where something shows them.
  shown = file is not None or other is not None
  if (shown or (options.check and not _is_measured(found))) and _has_weights(found):
    found, params = _weighed(found, gzip=shown)
  compared = _compared(found, params, other) if other else None
  shown = _chosen(found, options, compared)
  found = _in_order(found, shown.stages)
  if file is not None:
    made = _page(found, shown, params, other)
    files.write(file, made.encode("utf-8", "backslashreplace"))
  if options.json:
    # Without a choice the document lists the leaves of all stages in their own order.
    rows = shown.leaves if options.layers or options.sort else None
    made = document.document(found, rows, shown.compared)
    print(json.dumps(made, indent=1, allow_nan=False))
  elif file is not None:
    terminal.say(f"written: {file}")
    terminal.show_problems(found)
  else:
    terminal.show(found, shown.leaves if _lists_leaves(found, options) else [], shown.stages,
                  shown.compared, options.sort)
  if options.check and not found.failures and not found.unread and not options.json:
    terminal.say(_checked(found))
  if found.failures:
    return 1
  return 2 if found.unread else 0


def _checked(found: reader.Inspection) -> str:
  """Returns what was checked where nothing is damaged."""
  if checking.is_empty(found):
    return "nothing to check: the stage is not complete"
  if found.what == "orbax":
    return f"checked: all {len(found.leaves)} arrays can be read (they have no checksums of ours)"
  if found.what == "workdir":
    leaves = sum(len(stage.leaves) for stage in found.stages)
    return (f"checked: {len(found.stages)} stages, every array of {leaves} leaves and every file "
            "by its checksum; nothing is damaged")
  return (f"checked: every array of {len(found.leaves)} leaves by its checksum"
          f"{', and the files of the stage' if found.what == 'stage' else ''}; nothing is damaged")


def _page_file(options: argparse.Namespace) -> Path | None:
  """Returns where the page goes; refuses early what would fail after all the reading."""
  if not options.html:
    return None
  file = Path(options.html)
  folder = file.absolute().parent
  if not folder.is_dir():
    raise ValueError(f"--html={file}: {folder} is no directory")
  if file.exists() and not page.is_page(file):
    raise ValueError(f"--html={file}: there is something that is not a page; must be a new file, "
                     "an empty one, or a page that is replaced")
  for package in ("jinja2", "pygal", "PIL"):
    need(package, "html")
  return file


def _has_weights(found: reader.Inspection) -> bool:
  return bool(found.leaves) and not found.failures and not found.unread


def _is_measured(found: reader.Inspection) -> bool:
  """Returns whether all is known but sizes by gzip: manifests have it, Orbax does not."""
  return all(leaf.packed_bytes is not None for leaf in found.leaves)


def _weighed(found: reader.Inspection, gzip: bool) -> tuple[reader.Inspection, Any]:
  """Returns the inspection with what the weights tell, and them; or with why they cannot."""
  try:
    params = reader.tree_of(found)
  except reader.InspectError as error:
    return dataclasses.replace(found, failures=(*found.failures, str(error))), None
  if found.what == "artifact":
    return found, params  # all of it was read, and measured, at once
  return reader.measured(found, params, gzip=gzip), params


def _check_comparable(other: reader.Inspection, found: reader.Inspection) -> None:
  """Refuses to compare what is damaged, cannot be read, or is not there yet."""
  for side in (other, found):
    if side.failures:
      raise ValueError(f"{side.path}: damaged ({side.failures[0]})")
    if side.unread:
      raise ValueError(side.unread[0])
    if checking.is_empty(side):
      raise ValueError(f"{side.path}: a stage that is not complete; --diff compares two that are")


def _compared(found: reader.Inspection, params: Any, other: reader.Inspection) -> diff.Diff:
  if other.what == "workdir":  # `compare` refuses it
    return diff.compare(other, found, None, params)
  measured, earlier = _weighed(other, gzip=True)
  _check_comparable(measured, found)
  return diff.compare(measured, found, earlier, params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shown:
  """What is shown, chosen by --layers and in the order of --sort.

  Attributes:
    leaves: one row per leaf.
    stages: one row per stage of a workdir.
    compared: the differences, or None.
  """

  leaves: list[columns.Row]
  stages: list[columns.Row]
  compared: diff.Diff | None


def _lists_leaves(found: reader.Inspection, options: argparse.Namespace) -> bool:
  """Tells whether leaves are printed: a workdir's only where --layers asks for them."""
  return found.what != "workdir" or options.layers is not None


def _chosen(found: reader.Inspection, options: argparse.Namespace,
            compared: diff.Diff | None) -> _Shown:
  leaves, changes = columns.leaf_rows(found), []
  if compared is None:
    leaves = columns.filtered(leaves, options.layers)
  else:  # also of leaves that are gone
    changes = columns.filtered(compared.rows, options.layers)
    chosen = {row["path"] for row in changes}
    leaves = [row for row in leaves if row["path"] in chosen]
  stages = columns.stage_rows(found)
  fields_of_stages = columns.fields_of(stages, columns.STAGE)
  fields_of_changes = columns.DIFF if compared else ()
  fields_of_leaves: tuple[str, ...] = ()
  if not stages or options.layers is not None:
    fields_of_leaves = columns.LEAF if found.what != "workdir" else ("stage", *columns.LEAF)
  # Refuses a field that no table has; each table is sorted that has it.
  known = dict.fromkeys([*fields_of_stages, *fields_of_changes, *fields_of_leaves])
  columns.ordered([], options.sort, list(known))
  changes = _sorted(changes, options.sort, fields_of_changes)
  if compared is not None:
    compared = dataclasses.replace(compared, rows=tuple(changes))
  return _Shown(leaves=_sorted(leaves, options.sort, fields_of_leaves),
                stages=_sorted(stages, options.sort, fields_of_stages), compared=compared)


def _sorted(rows: Sequence[columns.Row], field: str | None,
            fields: Sequence[str]) -> list[columns.Row]:
  if field is None or field.removeprefix("-") not in fields:
    return list(rows)
  return columns.ordered(rows, field, fields)


def _in_order(found: reader.Inspection, rows: Sequence[columns.Row]) -> reader.Inspection:
  """Returns the inspection with its stages in the order of their rows."""
  place = {row["stage"]: number for number, row in enumerate(rows)}
  stages = sorted(found.stages, key=lambda stage: place.get(stage.name, -1))
  return dataclasses.replace(found, stages=tuple(stages))


def _page(found: reader.Inspection, shown: _Shown, params: Any,
          other: reader.Inspection | None) -> str:
  if found.what == "workdir":
    return view.workdir_page(found, shown.stages, shown.leaves)
  earlier = other or reader.parent(found)
  before = None
  if params is not None and earlier is not None and _has_weights(earlier):
    # Damaged weights are only not shown.
    with contextlib.suppress(reader.InspectError):
      before = (earlier.name, reader.tree_of(earlier))
  return view.checkpoint_page(found, shown.leaves, params, before=before, diff=shown.compared)


if __name__ == "__main__":
  sys.exit(main())
