"""What a field of a configuration may be: numbers within limits, one of some values, and so on."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

MANY = 10**9  # a number that needs no limit


class Rule:
  """What a field may be.

  Attributes:
    text: the same in words, for errors and for `--help`: what follows "must be".
  """

  text: str

  def fits(self, value: Any) -> bool:
    """Returns whether a value may be the field's.

    Args:
      value: anything.
    """
    raise NotImplementedError

  def problem(self, field: str, value: Any) -> str | None:
    """Returns what is wrong with a value, as the text of an error, or None.

    Args:
      field: where it is in the configuration, for the message.
      value: the field's.
    """
    return None if self.fits(value) else f"config.{field}={value!r}: must be {self.text}"


@dataclasses.dataclass(frozen=True)
class Number(Rule):
  """A number within limits; NaN is outside of any.

  Attributes:
    low: the least.
    high: the most.
    whole: whether it must be an int.
    optional: whether it may be None.
    zero: what 0 stands for, where that is more than a number.

  Example:
    >>> Number(0, 1).problem("kd.alpha", 2.0)
    'config.kd.alpha=2.0: must be a number from 0 to 1'
    >>> Number(0, 9, whole=True, zero="all").text
    'a whole number from 0 to 9 (0: all)'
  """

  low: float
  high: float = MANY
  whole: bool = False
  optional: bool = False
  zero: str = ""

  @property
  def text(self) -> str:
    kind = "a whole number" if self.whole else "a number"
    none = ", or None" if self.optional else ""
    zero = f" (0: {self.zero})" if self.zero else ""
    return f"{kind} from {_plain(self.low)} to {_plain(self.high)}{none}{zero}"

  def fits(self, value: Any) -> bool:
    if value is None:
      return self.optional
    kind = int if self.whole else int | float
    # True is an int to Python.
    if not isinstance(value, kind) or isinstance(value, bool):
      return False
    return self.low <= value <= self.high


def _plain(number: float) -> str:
  """Returns a limit in few characters: 10000, 0.001, 1e9."""
  short = f"{number:.0e}"
  if number >= 10**6 and float(short) == number:
    return short.replace("e+0", "e").replace("e+", "e")
  return str(number)


@dataclasses.dataclass(frozen=True)
class BelowOne(Number):
  """A fraction that is not 1, such as a sparsity.

  Example:
    >>> BelowOne().problem("ratio", 1.0)
    'config.ratio=1.0: must be a number from 0 to below 1'
  """

  low: float = 0
  high: float = 1

  @property
  def text(self) -> str:
    return "a number from 0 to below 1"

  def fits(self, value: Any) -> bool:
    return super().fits(value) and value != 1


@dataclasses.dataclass(frozen=True)
class OneOf(Rule):
  """One of some values.

  Example:
    >>> OneOf(("accuracy", "log_likelihood")).problem("search.by", "loss")
    "config.search.by='loss': must be one of accuracy, log_likelihood"
  """

  choices: tuple[Any, ...]

  @property
  def text(self) -> str:
    return f"one of {', '.join(map(str, self.choices))}"

  def fits(self, value: Any) -> bool:
    return value in self.choices


@dataclasses.dataclass(frozen=True)
class Each(Rule):
  """Several different values, for each of which a rule holds.

  Attributes:
    rule: of each.
    least: how many there must be.

  Example:
    >>> Each(BelowOne(), least=1).text
    'different values in parentheses, at least 1, each a number from 0 to below 1'
  """

  rule: Rule
  least: int = 0

  @property
  def text(self) -> str:
    least = f", at least {self.least}" if self.least else ""
    return f"different values in parentheses{least}, each {self.rule.text}"

  def fits(self, value: Any) -> bool:
    return self._are_values(value) and all(map(self.rule.fits, value))

  def problem(self, field: str, value: Any) -> str | None:
    if not self._are_values(value):
      return super().problem(field, value)
    # One of a long list is easier to find by itself.
    problems = (self.rule.problem(field, one) for one in value)
    return next(filter(None, problems), None)

  def _are_values(self, value: Any) -> bool:
    # The same twice would pass for two seeds of it.
    return (isinstance(value, tuple | list) and len(value) >= self.least
            and all(one not in value[:i] for i, one in enumerate(value)))


class Switch(Rule):
  """True or False."""

  text = "true or false"

  def fits(self, value: Any) -> bool:
    return isinstance(value, bool)


class Pattern(Rule):
  """A regular expression."""

  text = "a regular expression"

  def fits(self, value: Any) -> bool:
    return self._error(value) is None

  def problem(self, field: str, value: Any) -> str | None:
    error = self._error(value)
    return None if error is None else f"{super().problem(field, value)} ({error})"

  def _error(self, value: Any) -> Exception | None:
    try:
      re.compile(value)
    except (re.error, TypeError) as error:
      return error
    return None


@dataclasses.dataclass(frozen=True)
class Elsewhere(Rule):
  """Anything here: whatever uses the field checks it, before anything is trained.

  Attributes:
    text: what that asks for.
  """

  text: str

  def fits(self, value: Any) -> bool:
    return True


def count(low: int, high: int = MANY, zero: str = "") -> Number:
  """Returns the rule of a whole number.

  Args:
    low: the least.
    high: the most.
    zero: what 0 stands for, where that is more than a number.
  """
  return Number(low, high, whole=True, zero=zero)
