"""Values as people read them."""

from __future__ import annotations

import math
from typing import Any


def printable(value: str) -> str:
  """Returns a text in one line that moves no cursor: names may come from anyone.

  Args:
    value: of any characters, half ones of file names that are no Unicode too.

  Returns:
    The text with escapes in place of what is not printed.

  Example:
    >>> print(printable("a" + chr(27) + "[31m" + chr(10) + "b"))
    a\\x1b[31m\\nb
  """
  return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def percent(fraction: float) -> str:
  """Returns a fraction in percent; only what is all, or nothing, is called so.

  Args:
    fraction: 0 to 1.

  Returns:
    The text.

  Example:
    >>> percent(0.5), percent(0.9999), percent(1.0), percent(1e-9)
    ('50.0 %', '> 99.9 %', '100.0 %', '< 0.1 %')
  """
  said = f"{100 * fraction:.1f} %"
  if said == "100.0 %" and fraction < 1:
    return "> 99.9 %"
  if said == "0.0 %" and fraction > 0:
    return "< 0.1 %"
  return said


def number(field: str, value: Any) -> str:
  """Returns a metric as people read it.

  Args:
    field: its name, which tells its unit.
    value: of any type; what is not a number is shown as it is.

  Returns:
    A short text.

  Example:
    >>> number("test_accuracy", 0.9912), number("artifact_bytes", 1234.5), number("seconds", 2.0)
    ('99.12 %', '1,235', '2.0')
  """
  if isinstance(value, bool) or not isinstance(value, int | float):
    return printable(str(value))
  if field.endswith("accuracy") or field == "reduction":
    return f"{100 * value:.2f} %"
  if field.endswith(("_bytes", "_before")):
    return f"{math.ceil(value):,}"  # a 4-bit weight takes half a byte
  if field == "seconds":
    return f"{value:,.1f}"
  if isinstance(value, int):
    return f"{value:,}"
  return f"{value:.4g}"
