"""Fields of configurations, as they are listed and as they are typed; needs no JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def flat(part: Any, before: str = "",
         skips: Callable[[Any, str], bool] = lambda part, name: False) -> Iterator[tuple[str, Any]]:
  """Yields all fields of a configuration, those of its parts too.

  Args:
    part: a configuration, or a part of one.
    before: the path of the part, with a dot at its end.
    skips: of a part and the name of one of its fields, whether that is left out.

  Yields:
    (path, value).

  Example:
    >>> list(flat({"seeds": 1, "imp": {"fraction": 0.2}}))
    [('seeds', 1), ('imp.fraction', 0.2)]
  """
  for name, value in part.items():
    if skips(part, name):
      continue
    if hasattr(value, "items"):
      yield from flat(value, f"{before}{name}.", skips)
    else:
      yield before + name, value


def typed(value: Any) -> str:
  """Returns a field's value as it is typed behind its flag.

  Args:
    value: a field's, also as JSON has it.

  Example:
    >>> typed(True), typed([4, 8]), typed([4]), typed("")
    ('true', '(4, 8)', '(4,)', '""')
  """
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, list):
    return str(tuple(value))
  return '""' if value == "" else str(value)
