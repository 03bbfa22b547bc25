"""Checks of a study's configuration: one table of fields, and what each may be.

`FIELDS` has what all studies share; a study adds its own. `config` refuses the first field
that cannot be used, before anything is trained, with an error that names it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments import models, settings
from experiments.datasets import builders
from experiments.studies.rules import BelowOne, Each, Elsewhere, Number, OneOf, Rule, Switch, count
from experiments.training import optimizers, schedules

# By the end of a field's path: the longest ending that is here is the field's rule.
FIELDS: dict[str, Rule] = {
    "study": Elsewhere("the study's function, package.module.function"), "combo": Switch(),
    "weights": Elsewhere("a .pth or .safetensors file to start from, or \"\""),
    "seed": count(0, 2**31 - 1), "seeds": count(1, 10**4),
    "mesh.fsdp": count(0, zero="all devices"),
    "compute_dtype": OneOf(("auto", "float32", "bfloat16")),
    "data.name": Elsewhere(f"one of {', '.join(builders.DATASETS)}"),
    "data.validation": Number(0.001, 0.9), "data.limit": count(0, zero="all images"),
    "data.side": count(0, 4096, zero="224, where the data are a folder"),
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
    "train.views": count(0, 10**6, zero="new ones in every epoch"),
    "temperature": Number(1e-3, 1000), "alpha": Number(0, 1),
    "images": count(1), "calls": count(1),
    "bits": count(2, 16), "activation_bits": count(2, 16),
    "fraction": Number(0.001, 0.999), "tolerance": Number(0, 1),
    # Of the sixteen combinations, which any study can have under `combine`.
    "combos": Elsewhere("names and commas, all is the sixteen: all,lrtf+tune"),
    "imp.rounds": count(1, 1000), "q.bits": count(2, 16), "q.activation_bits": count(2, 16),
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
  for path, value in fields(given):
    if path.endswith("augment.alternating") and value:
      _check_flips(given, path)
  data = given.get("data") or {}
  # A study of folders has a rule of its own.
  if data.get("side") and data["name"] != "folder" and "data.side" not in own:
    raise ValueError(f"config.data.side={data['side']}: does nothing without "
                     "--config.data.name=folder")


def _check_flips(given: Any, path: str) -> None:
  """Raises a ValueError for flips that are to alternate where there are none."""
  beside = path.removesuffix("alternating") + "flip"
  if not dict(fields(given)).get(beside, True):
    raise ValueError(f"config.{_named(given, path)}=True: does nothing without "
                     f"--config.{_named(given, beside)}=true")


def fields(part: Any, before: str = "") -> Iterator[tuple[str, Any]]:
  """Yields all fields of a configuration, those of parts too, but no arguments of models.

  Args:
    part: a configuration, or a part of one.
    before: the path of the part, with a dot at its end.

  Yields:
    (path, value).
  """
  yield from settings.flat(part, before, _unchecked)


def _unchecked(part: Any, name: str) -> bool:
  # `model_shapes` makes the models, which checks their names and arguments.
  return name in ("arguments", "of_study") or (name == "name" and "arguments" in part)


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
  try:
    traced, shapes = jax.make_jaxpr(init, return_shape=True)(
        jax.random.key(0), jnp.zeros((1, *image)))
    empty = any(0 in shape for shape in _layers(traced.jaxpr))
  except ZeroDivisionError:  # JAX 0.10's initializers, of a layer without inputs
    empty = True
  if empty:
    # It would train all the same: on nothing, or on the mean of nothing, which is NaN.
    raise ValueError(f"images of {image[0]} x {image[1]} pixels shrink to nothing in {model.name}; "
                     "must be larger, or the model have fewer layers that shrink them")
  return shapes["params"]


# What layers compute; other operations may well be of something empty.
_OF_LAYERS = ("conv_general_dilated", "dot_general", "reduce_window")


def _layers(jaxpr: Any) -> Iterator[tuple[int, ...]]:
  """Yields the shapes of all that a program's layers take and give, in its parts too."""
  for equation in jaxpr.eqns:
    if equation.primitive.name.startswith(_OF_LAYERS):
      yield from (value.aval.shape for value in (*equation.invars, *equation.outvars))
    for value in equation.params.values():
      for part in value if isinstance(value, tuple | list) else (value,):
        inner = getattr(part, "jaxpr", part)
        if hasattr(inner, "eqns"):
          yield from _layers(inner)
