"""What the fields of the combination study's configuration may be."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp

import compress_jax as cj
from experiments import models
from experiments.datasets import builders
from experiments.studies import checks

TECHNIQUES = ("kd", "imp", "lrtf", "q")  # in the order in which they are applied


def _combinations() -> tuple[str, ...]:
  """Returns all subsets of the techniques by name, the smaller ones first."""
  names = []
  for count in range(len(TECHNIQUES) + 1):
    for chosen in itertools.combinations(TECHNIQUES, count):
      names.append("+".join(chosen) or "base")
  return tuple(names)


COMBOS = _combinations()

_LIMITS = {
    "kd.alpha": (0, 1), "kd.temperature": (1e-3, 1e3), "imp.fraction": (0.001, 0.999),
    "imp.tolerance": (0, 1), "imp.rounds": (0, 1000), "lrtf.rank": (0, 10**6),
    "lrtf.delta": (0, 10**6), "q.bits": (2, 16), "q.activation_bits": (2, 16),
    "q.images": (1, checks.MANY), "seed": (0, 2**31 - 1),
    "data.validation": (0.001, 0.9), "data.limit": (0, checks.MANY),
    "data.augment.crop": (0, 64), "data.augment.rotate": (0, 180), "data.augment.jitter": (0, 1),
    **checks.SEEDS, **checks.training(("base", "kd", "imp"))}


def check(config: Any) -> None:
  """Raises a ValueError that names the first number or name that cannot be used."""
  checks.numbers(config, _LIMITS)
  checks.choice("compute_dtype", config.compute_dtype, ("float32", "bfloat16"))
  for combo in selected(config):
    checks.choice("combos", combo, ("all", *COMBOS))


def selected(config: Any) -> list[str]:
  """Returns the combinations that `config.combos` ("all", or names and commas) asks for."""
  return list(COMBOS) if config.combos == "all" else config.combos.split(",")


def check_models(config: Any, builder: Any) -> None:
  """Checks that both models can be made and factorized; nothing is computed.

  Args:
    config: the study's configuration.
    builder: of the data set, says the images' shape.

  Raises:
    ValueError: names the model or the rank that cannot be.
  """
  for part in ("teacher", "student"):
    try:
      params = _shapes(config[part], builder)
    except ValueError as error:
      raise ValueError(f"config.{part}: {error}") from None
    for chosen in _ranks(config):
      factorize = functools.partial(cj.factorize.svd, **chosen)
      try:
        # Shapes only: a rank that is too large is known before hours of training.
        jax.eval_shape(factorize, params)
      except ValueError as error:
        raise ValueError(f"config.lrtf: {part}: {error}") from None


def _shapes(model: Any, builder: Any) -> Any:
  """Returns the shapes of a model's parameters."""
  image = builders.image_shape(builder)
  made = models.create(model.name, num_classes=builders.num_classes(builder),
                       **model.arguments.to_dict())
  init = functools.partial(made.init, train=False)
  return jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, *image)))["params"]


def _ranks(config: Any) -> list[dict[str, int]]:
  """Returns the ranks that the study factorizes to, as `cj.factorize.svd` takes them."""
  ranks = [{"delta": delta} for delta in config.get("deltas", ())]
  if config.lrtf.rank:
    return [*ranks, {"rank": config.lrtf.rank}]
  return [*ranks, {"delta": config.lrtf.delta}]
