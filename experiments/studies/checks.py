"""Checks of a study's configuration: one table of fields, and what each may be.

`FIELDS` has what all studies share; a study adds its own. `config` refuses the first field
that cannot be used, before anything is trained, with an error that names it.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments import models
from experiments.datasets import builders
from experiments.training import optimizers, schedules

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
  """Several values, for each of which a rule holds.

  Attributes:
    rule: of each.
    least: how many there must be.

  Example:
    >>> Each(BelowOne(), least=1).text
    'values in parentheses, at least 1, each a number from 0 to below 1'
  """

  rule: Rule
  least: int = 0

  @property
  def text(self) -> str:
    least = f", at least {self.least}" if self.least else ""
    return f"values in parentheses{least}, each {self.rule.text}"

  def fits(self, value: Any) -> bool:
    return self._are_values(value) and all(map(self.rule.fits, value))

  def problem(self, field: str, value: Any) -> str | None:
    if not self._are_values(value):
      return super().problem(field, value)
    # One of a long list is easier to find by itself.
    problems = (self.rule.problem(field, one) for one in value)
    return next(filter(None, problems), None)

  def _are_values(self, value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) >= self.least


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


# By the end of a field's path: the longest ending that is here is the field's rule.
FIELDS: dict[str, Rule] = {
    "study": Elsewhere("the study's function, package.module.function"), "combo": Switch(),
    "weights": Elsewhere("a .pth or .safetensors file to start from, or \"\""),
    "seed": count(0, 2**31 - 1), "seeds": count(1, 10**4),
    "compute_dtype": OneOf(("auto", "float32", "bfloat16")),
    "data.name": Elsewhere(f"one of {', '.join(builders.DATASETS)}"),
    "data.validation": Number(0.001, 0.9), "data.limit": count(0, zero="all images"),
    # Smaller images vanish in the networks that read folders.
    "data.side": count(32, 4096),
    "augment.crop": count(0, 64), "augment.flip": Switch(), "augment.rotate": Number(0, 180),
    "augment.jitter": Number(0, 1), "augment.pad": OneOf(("zero", "reflect")),
    "augment.alternating": Switch(), "augment.cutout": count(0, 4096),
    "augment.mixup": Number(0, 100),
    "train.epochs": count(1, 10**6), "train.batch_size": count(1, 10**6),
    "train.steps_per_epoch": count(0, zero="a pass over the data"),
    # No tight limit: a rate that is too large is a matter of the model, and training says so.
    "train.learning_rate": Number(0), "train.final_learning_rate": Number(0),
    "train.l1": Number(0), "train.l2": Number(0),
    "train.optimizer": OneOf(optimizers.KINDS), "train.momentum": BelowOne(),
    "train.weight_decay": Number(0), "train.bias_learning_rate": Number(0),
    "train.head_learning_rate": Number(0),
    "train.rest_optimizer": OneOf(optimizers.REST_KINDS), "train.rest_momentum": BelowOne(),
    # More steps than these change a matrix by less than rounding does.
    "train.newton_schulz_steps": count(1, 20), "train.normalize_filters": Switch(),
    "train.schedule": OneOf(schedules.KINDS), "train.warmup": BelowOne(),
    "train.label_smoothing": BelowOne(), "train.ema": BelowOne(),
    "temperature": Number(1e-3, 1000), "alpha": Number(0, 1),
    "images": count(1), "calls": count(1),
    "bits": count(2, 16), "activation_bits": count(2, 16),
    "fraction": Number(0.001, 0.999), "tolerance": Number(0, 1),
    # Of the sixteen combinations, which any study can have under `combine`.
    "combos": Elsewhere("all, or names and commas: base,imp,imp+q"),
    "imp.rounds": count(0, 1000), "q.bits": count(2, 16), "q.activation_bits": count(2, 16),
    "lrtf.rank": count(0, 10**6, zero="r_max - delta"), "lrtf.delta": count(0, 10**6),
    "conventional": Switch(), "deltas": Each(count(0, 10**6)),
}


def config(given: Any, own: Mapping[str, Rule]) -> None:
  """Raises an error for the first field of a configuration that cannot be used.

  Args:
    given: a study's configuration; all of its parts are checked, `combine` too.
    own: the study's own fields and rules, as in `FIELDS`.

  Raises:
    ValueError: names the field, its value and what it must be.

  Example:
    >>> config({"kd": {"alpha": 2.0}}, {})
    Traceback (most recent call last):
    ...
    ValueError: config.kd.alpha=2.0: must be a number from 0 to 1
  """
  for path, value in fields(given):
    found = rule(path, own)
    problem = found.problem(_named(given, path), value) if found else None
    if problem:
      raise ValueError(problem)


def fields(part: Any, before: str = "") -> Iterator[tuple[str, Any]]:
  """Yields all fields of a configuration, those of parts too, but no arguments of models.

  Args:
    part: a configuration, or a part of one.
    before: the path of the part, with a dot at its end.

  Yields:
    (path, value).
  """
  for name, value in part.items():
    if name in ("arguments", "of_study"):
      continue  # `model_shapes` makes the models, which checks their arguments
    if isinstance(value, Mapping) or hasattr(value, "items"):
      yield from fields(value, f"{before}{name}.")
    elif not _names_model(part, name):
      yield before + name, value


def _names_model(part: Any, name: str) -> bool:
  return name == "name" and "arguments" in part


def rule(path: str, own: Mapping[str, Rule]) -> Rule | None:
  """Returns the rule of a field: of the longest ending of its path that has one.

  Args:
    path: in the configuration, with dots.
    own: the study's own rules, which go before those that all studies share.

  Example:
    >>> rule("combine.kd.alpha", {})
    Number(low=0, high=1, whole=False, optional=False, zero='')
  """
  known = {**FIELDS, **own}
  parts = path.split(".")
  for first in range(len(parts)):
    ending = ".".join(parts[first:])
    if ending in known:
      return known[ending]
  return None


def _named(given: Any, path: str) -> str:
  """Returns a field's path in the configuration that the user gave."""
  first, dot, rest = path.partition(".")
  return (given.get("of_study") or {}).get(first, first) + dot + rest


def choice(field: str, value: Any, choices: Iterable[Any]) -> None:
  """Raises an error for a value that is none of the choices.

  Args:
    field: of the configuration, for the message.
    value: the field's, or one of the field's values.
    choices: what it can be.

  Raises:
    ValueError: names the field, the value and the choices.

  Example:
    >>> choice("search.by", "loss", ("accuracy", "log_likelihood"))
    Traceback (most recent call last):
    ...
    ValueError: config.search.by='loss': must be one of accuracy, log_likelihood
  """
  problem = OneOf(tuple(choices)).problem(field, value)
  if problem:
    raise ValueError(problem)


def model_shapes(given: Any, builder: Any) -> dict[str, Any]:
  """Makes every model of a configuration in shapes only, which checks its arguments.

  Args:
    given: a study's configuration; `combine` counts where `combo` is true.
    builder: of the data set, says the images' shape.

  Returns:
    {path of the model: shapes of its parameters}.

  Raises:
    ValueError: names the first model that cannot be made.
  """
  shapes = {}
  for path, model in _models(given):
    try:
      shapes[path] = _shapes(model, builder)
    except Exception as error:  # a model can raise anything for arguments that make no sense
      reason = str(error).strip().partition("\n")[0] or type(error).__name__
      raise ValueError(f"config.{_named(given, path)}: {reason}") from None
  return shapes


def _models(part: Any, before: str = "") -> Iterator[tuple[str, Any]]:
  for name, value in part.items():
    if name == "combine" and not part.get("combo"):
      continue  # models of combinations that are not asked for
    if hasattr(value, "items"):
      if "arguments" in value:
        yield before + name, value
      else:
        yield from _models(value, f"{before}{name}.")


def _shapes(model: Any, builder: Any) -> Any:
  """Returns the shapes of a model's parameters."""
  image = builders.image_shape(builder)
  made = models.create(model.name, num_classes=builders.num_classes(builder),
                       **model.arguments.to_dict())
  init = functools.partial(made.init, train=False)
  return jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, *image)))["params"]
