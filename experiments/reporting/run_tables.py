"""Runs in the terminal: one row each, or side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from compress_jax.inspect import terminal
from experiments import settings
from experiments.reporting import places, runs
from experiments.reporting.runs import Run

_NONE = "–"
_LONGEST = 36  # columns of a run's name; a longer one has a line of its own if it must

# Columns of the list; on a narrow terminal those named in `_DISPENSABLE` are left out in turn.
_LISTED = ("run", "study", "data", "config", "date", "commit", "rows", "best", "smallest", "state")
_DISPENSABLE = ("config", "commit", "date", "data", "study", "rows")
_NUMBERS = ("rows", "best")

# Of a row: title, value, how it is written.
_MEASURES = (
    ("test accuracy, %", lambda score: 100 * score.accuracy, ".2f"),
    ("file, kB", lambda score: score.nbytes / 1000, ",.1f"),
    ("saved, %", lambda score: None if score.saved is None else 100 * score.saved, ".1f"))

Cells = Sequence[Sequence[str]]


def listed(root: Path, columns: int) -> str:
  """Returns the runs below a folder as a table.

  Args:
    root: usually `runs`, or a workdir.
    columns: of the terminal.

  Raises:
    ValueError: there is no such folder, or no run in it.
  """
  if not root.is_dir():
    raise ValueError(f"--workdir={str(root)!r}: is no directory; it must be one with runs")
  found = [runs.read(folder) for folder in runs.find(root)]
  if not found:
    raise ValueError(f"--workdir={str(root)!r}: has no runs; it must be a workdir, or a "
                     "directory of workdirs")
  rows = [_listed(run, root) for run in found]
  kept = [name for name in _LISTED if any(row[name] != _NONE for row in rows)]
  for field in ("", *_DISPENSABLE):
    kept = [name for name in kept if name != field]
    for longest in (columns, _LONGEST):
      text = _list_table(rows, kept, longest)
      if _fits(text, columns):
        return text
  return text


def _listed(run: Run, root: Path) -> dict[str, str]:
  """Returns the cells of a run."""
  by_name = runs.scores(run)
  commit = str(run.environment.get("commit") or "")[:7]
  row = {"run": runs.named(run.folder, root), "study": run.study, "data": run.data,
         "config": run.given, "date": run.date, "commit": commit, "rows": str(len(run.rows) or ""),
         "best": "", "smallest": "", "state": _state(run)}
  if by_name:
    best = max(score.accuracy for score in by_name.values())
    small = min(by_name.values(), key=lambda score: score.nbytes)
    row |= {"best": _percent(best),
            "smallest": f"{small.nbytes / 1000:,.1f} kB at {_percent(small.accuracy)} %"}
  return {name: cell or _NONE for name, cell in row.items()}


def _percent(fraction: float) -> str:
  return f"{100 * fraction:.2f}"


def _state(run: Run) -> str:
  if not run.has_results:
    return "at work" if places.is_held(run.folder) else "no results yet"
  return f"{len(run.missing)} missing" if run.missing else "complete"


def _list_table(rows: Sequence[Mapping[str, str]], kept: Sequence[str], longest: int) -> str:
  """Returns a table of the columns that are kept; longer names stand above their rows."""
  cells, above = [], {}
  for row in rows:
    line = [row[name] for name in kept]
    if len(line[0]) > longest:
      above[len(cells)], line[0] = line[0], ""
    cells.append(line)
  headings = [{"best": "best, %", "smallest": "smallest file"}.get(name, name) for name in kept]
  lines = terminal.plain_table(headings, cells, [name in _NUMBERS for name in kept]).split("\n")
  out = lines[:1]
  for number, line in enumerate(lines[1:]):
    out += [above[number], line] if number in above else [line]
  return "\n".join(out)


def compared(folders: Sequence[Path], root: Path, columns: int) -> str:
  """Returns in which fields, images and releases some runs differ, and their rows side by side.

  Args:
    folders: of results, the first is what the others are compared with.
    root: where their names begin.
    columns: of the terminal.

  Raises:
    ValueError: fewer than two.
  """
  if len(folders) < 2:
    raise ValueError(f"--compare={runs.named(folders[0], root)!r}: is one run; it must be two or "
                     "more, with commas between them")
  found = [runs.read(folder) for folder in folders]
  letters = _letters(len(found))
  legend = [f"{letter}  {runs.named(run.folder, root)}"
            for letter, run in zip(letters, found, strict=True)]
  parts = ["\n".join(legend), _fields(found, letters, columns), *_rows(found, letters, columns)]
  return "\n\n".join(parts)


def _letters(count: int) -> list[str]:
  """Returns short names: A, B, …, Z, R27, R28, …"""
  return [chr(ord("A") + i) if i < 26 else f"R{i + 1}" for i in range(count)]


def _fields(found: Sequence[Run], letters: Sequence[str], columns: int) -> str:
  """Returns the fields of the configurations that differ, and what else makes results differ."""
  unknown = [letter for letter, run in zip(letters, found, strict=True) if run.config is None]
  if unknown:
    return f"no results.json that can be read, so no configuration: {', '.join(unknown)}"
  facts = [_facts(run) for run in found]
  table = []
  for name in dict.fromkeys(name for one in facts for name in one):
    values = [one.get(name, _NONE) for one in facts]
    if any(value != values[0] for value in values):
      table.append([name, *values])
  if not table:
    return "configurations, images and releases do not differ"
  text = terminal.plain_table(["field", *letters], table, [False] * (1 + len(found)))
  return text if _fits(text, columns) else "\n".join(_field_lines(table, letters, columns))


def _facts(run: Run) -> dict[str, str]:
  """Returns a run's fields as they are typed, then its images and releases in parentheses."""
  facts = {path: settings.typed(value) for path, value in run.config.items()}
  # The same fields can name other images: a folder's, or those of another --data_dir.
  facts["(images)"] = run.fingerprint or _NONE
  for release in ("compress_jax", "jax"):
    facts[f"({release})"] = str(run.environment.get(release) or _NONE)
  return facts


def _field_lines(table: Cells, letters: Sequence[str], columns: int) -> Iterator[str]:
  """Yields fields with their values behind them, for values that are too long for columns."""
  for path, *values in table:
    pairs = zip(letters, values, strict=True)
    text = f"{path}  {', '.join(f'{letter}: {value}' for letter, value in pairs)}"
    yield textwrap.fill(text, columns, subsequent_indent="    ", break_long_words=False,
                        break_on_hyphens=False)


def _rows(found: Sequence[Run], letters: Sequence[str], columns: int) -> Iterator[str]:
  """Yields one table of all measures, or one of each where that is too wide."""
  every = [runs.scores(run) for run in found]
  names = list(dict.fromkeys(name for one in every for name in one))
  blocks = []
  for title, measure, form in _MEASURES:
    values = [[measure(one[name]) if name in one else None for one in every] for name in names]
    blocks.append(_block(title, values, letters, form))
  first = ["", "row", *names]
  whole = _side_by_side([first, *blocks])
  if _fits(whole, columns):
    yield whole
  else:
    yield from (_side_by_side([first, block]) for block in blocks)


def _block(title: str, values: Sequence[Sequence[float | None]], letters: Sequence[str],
           form: str) -> list[str]:
  """Returns the lines of a measure: its title, headings, then values and differences by row."""
  cells = []
  for row in values:
    shown = [_NONE if value is None else format(value, form) for value in row]
    pairs = zip(letters[1:], row[1:], strict=True)
    cells.append([*shown, *(_difference(letters[0], row[0], *pair, form) for pair in pairs)])
  headings = [*letters, *(f"{letter} - {letters[0]}" for letter in letters[1:])]
  return [title, *terminal.plain_table(headings, cells, [True] * len(headings)).split("\n")]


def _difference(first: str, before: float | None, second: str, after: float | None,
                form: str) -> str:
  """Returns after - before, or which of both has the row."""
  if before is None and after is None:
    return _NONE
  if before is None or after is None:
    return f"only {first if after is None else second}"
  return format(after - before, f"+z{form}")


def _side_by_side(blocks: Sequence[Sequence[str]]) -> str:
  """Returns blocks of as many lines beside each other."""
  widths = [max(map(len, block)) for block in blocks]
  lines = []
  for parts in zip(*blocks, strict=True):
    padded = [part.ljust(width) for part, width in zip(parts, widths, strict=True)]
    lines.append("    ".join(padded).rstrip())
  return "\n".join(lines)


def _fits(text: str, columns: int) -> bool:
  return max(map(len, text.splitlines())) <= columns
