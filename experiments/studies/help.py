"""`--help`: the studies there are, and the fields of a configuration with what each may be."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import settings

_HOME = Path(__file__).parents[2]  # of `configs/` and `experiments/`
_WIDEST = 120  # columns; longer lines are hard to read
_DEFAULT = 22  # columns of a default; a longer one has its own line
_NARROW = 30  # with fewer columns for what a field may be, that has its own line

# What `app.run` would answer with all flags of JAX; --helpfull still does.
_ASKS = ("--help", "-help", "-h", "-?", "--helpshort", "-helpshort")


def asked(argv: Sequence[str]) -> bool:
  """Returns whether a command line asks for help.

  Args:
    argv: the command line.

  Example:
    >>> asked(["launch.py", "--help"]), asked(["launch.py", "--helpfull"])
    (True, False)
  """
  return any(flag in _ASKS for flag in argv[1:])


def width() -> int:
  """Returns how many columns the terminal has, at most 120; a file or a pipe has 120."""
  return min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)


def studies() -> list[str]:
  """Returns the files in configs/ that are a study's; others hold what studies share."""
  paths = sorted((_HOME / "configs").glob("*.py"))
  return [f"configs/{path.name}" for path in paths if "def get_config(" in path.read_text()]


def overview(flags: Mapping[str, str], columns: int) -> str:
  """Returns which studies there are, the flags, and how to see the fields of a study.

  Args:
    flags: {"--name=": what it is}.
    columns: of the terminal.
  """
  first = {file: _docstring(str(_HOME / file)).partition("\n")[0] for file in studies()}
  parts = [
      "Runs a study: python launch.py --config=configs/combo.py",
      _titled("Studies", _aligned(first, columns)), _titled("Flags", _aligned(flags, columns)),
      "The fields of a study, with what they may be:\n"
      "  python launch.py --config=configs/combo.py --help\nAll flags, JAX's too:\n"
      "  python launch.py --helpfull"]
  return "\n\n".join(parts)


def of_config(given: str, config: Any, flags: Mapping[str, str], columns: int) -> str:
  """Returns what a configuration is, the flags, and all of its fields.

  Args:
    given: the file, and the argument if there is one, as `configs/combo.py:digits`.
    config: what the file returns for that argument.
    flags: {"--name=": what it is}.
    columns: of the terminal.
  """
  found = fields(config)
  parts = [given, _docstring(given.partition(":")[0]),
           _titled("Flags", _aligned(flags, columns)),
           "Fields: flag, default, what it may be"]
  widest = max(len(field.flag) for field in found)
  for section in _sections(found):
    title = section or "study"
    if section == "combine":
      title += " (the sixteen combinations beside the study, with --config.combo=true)"
    rows = [field for field in found if field.section == section]
    parts.append(_titled(title, _rows(rows, widest, columns)))
  parts.append(_titled("Models", _wrapped("  ", _models(), columns)))
  return "\n\n".join(parts)


def _models() -> str:
  """Returns the names of the zoo's models."""
  from experiments import models  # late, as in `fields`
  return ", ".join(sorted(models.MODELS))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
  """A field of a configuration.

  Attributes:
    path: in the configuration, with dots.
    default: its value where no flag sets it.
    text: what it may be.
  """

  path: str
  default: Any
  text: str

  @property
  def section(self) -> str:
    """The part of the configuration that it is in; "" where it is in none."""
    return self.path.partition(".")[0] if "." in self.path else ""

  @property
  def flag(self) -> str:
    """What sets it."""
    return f"--config.{self.path}="

  @property
  def shown(self) -> str:
    """The default as it is typed."""
    return settings.typed(self.default)


def fields(config: Any) -> list[Field]:
  """Returns all fields of a configuration, with those of models.

  Args:
    config: of any study.

  Raises:
    LookupError: names a field that has no rule.
  """
  # Late: the checks import JAX and the models, which the list of studies does without.
  from experiments.studies import checks
  module = importlib.import_module(config.study.removesuffix(".study.run") + ".config")
  own = getattr(module, "FIELDS", {})
  found = []
  for path, value in settings.flat(config):
    text = _of_model(config, path)
    if text is None:
      rule = checks.rule(path, own)
      if rule is None:
        raise LookupError(f"config.{path}: has no rule; it must have one in checks.FIELDS or in "
                          f"{module.__name__}.FIELDS")
      text = rule.text
    found.append(Field(path=path, default=value, text=text))
  return found


def _of_model(config: Any, path: str) -> str | None:
  """Returns what a model's name or argument may be; None for any other field."""
  from experiments import models
  head, _, argument = path.partition(".arguments.")
  if argument:
    name = _at(config, head).name
    return _attribute(models.MODELS[name], argument.partition(".")[0])
  head, _, last = path.rpartition(".")
  if last == "name" and "arguments" in _at(config, head):
    return "one of the models at the end"  # a study may have a dozen
  return None


def _at(config: Any, path: str) -> Any:
  for part in path.split("."):
    config = config[part] if part else config
  return config


def _attribute(model: type, name: str) -> str:
  """Returns the type of a model's argument and what the model's docstring says of it."""
  text = inspect.getdoc(model) or ""
  found = re.search(rf"^  {name}: (.*(?:\n    .*)*)", text, re.MULTILINE)
  kind = str(model.__dataclass_fields__[name].type)
  return f"{kind}: {' '.join(found[1].split()).rstrip('.')}" if found else kind


def _docstring(file: str) -> str:
  """Returns a configuration's docstring, which is read and not run."""
  return ast.get_docstring(ast.parse(Path(file).read_text())) or ""


def _sections(found: Sequence[Field]) -> list[str]:
  """Returns the sections in the order in which they are shown."""
  names = dict.fromkeys(field.section for field in found)
  first = [name for name in ("", "data", "base") if name in names]
  last = [name for name in ("combine",) if name in names]
  return [*first, *(name for name in names if name not in (*first, *last)), *last]


def _titled(title: str, lines: Iterable[str]) -> str:
  return "\n".join([title, *lines])


def _aligned(texts: Mapping[str, str], columns: int) -> Iterator[str]:
  """Yields names and texts in two columns."""
  widest = max(map(len, texts))
  for name, text in texts.items():
    yield from _wrapped(f"  {name:<{widest}}  ", text, columns)


def _rows(rows: Sequence[Field], widest: int, columns: int) -> Iterator[str]:
  """Yields fields in three columns; what does not fit beside a flag is below it."""
  below = " " * (widest + 4)
  narrow = columns - len(below) - _DEFAULT < _NARROW
  for field in rows:
    flag = f"  {field.flag:<{widest}}  "
    if narrow:
      yield from _wrapped(f"  {field.flag}", field.shown, columns)
      yield from _wrapped(" " * 6, field.text, columns)
    elif len(field.shown) > _DEFAULT:
      yield from _wrapped(flag, field.shown, columns)
      yield from _wrapped(below + " " * (_DEFAULT + 2), field.text, columns)
    else:
      yield from _wrapped(f"{flag}{field.shown:<{_DEFAULT}}  ", field.text, columns)


def _wrapped(before: str, text: str, columns: int) -> list[str]:
  """Returns a text behind another, its further lines below its own beginning."""
  # Words are kept whole: a regular expression or a path must be copied in one piece.
  return textwrap.wrap(text, columns, initial_indent=before, subsequent_indent=" " * len(before),
                       break_long_words=False, break_on_hyphens=False) or [before.rstrip()]
