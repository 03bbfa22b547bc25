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
from experiments.studies import base

TECHNIQUES = ("kd", "imp", "lrtf", "q")
COMBOS = tuple("+".join(chosen) or "base" for count in range(len(TECHNIQUES) + 1)
               for chosen in itertools.combinations(TECHNIQUES, count))

_LIMITS = {
    "kd.alpha": (0, 1), "kd.temperature": (1e-3, 1e3), "imp.fraction": (0.001, 0.999),
    "imp.tolerance": (0, 1), "imp.rounds": (0, 1000), "lrtf.rank": (0, 10**6),
    "lrtf.delta": (0, 10**6), "q.bits": (2, 16), "q.activation_bits": (2, 16),
    "q.images": (1, 10**9), "seeds": (1, 10**4), "seed": (0, 2**31 - 1),
    "data.validation": (0.001, 0.9), "data.limit": (0, 10**9),
    "data.augment.crop": (0, 64), "data.augment.rotate": (0, 180), "data.augment.jitter": (0, 1),
} | {f"{part}.train.{field}": limits for part in ("base", "kd", "imp") for field, limits in {
    "epochs": (1, 10**6), "batch_size": (1, 10**6), "steps_per_epoch": (0, 10**9),
    "learning_rate": (0, 10), "final_learning_rate": (0, 10)}.items()}


def check(config: Any) -> None:
  """Raises a ValueError that names the first number or name that cannot be used."""
  base.check(config, _LIMITS)
  _check_choice("compute_dtype", config.compute_dtype, ("float32", "bfloat16"))
  for combo in selected(config):
    _check_choice("combos", combo, ("all", *COMBOS))


def check_models(config: Any, builder: Any) -> None:
  """Raises a ValueError for a model or a rank that cannot be; nothing is computed."""
  for part in ("teacher", "student"):
    try:
      params = _shapes(config[part], builder)
    except ValueError as error:
      raise ValueError(f"config.{part}: {error}") from None
    ranks = [{"delta": delta} for delta in config.get("deltas", ())]
    ranks.append({"rank": config.lrtf.rank} if config.lrtf.rank else {"delta": config.lrtf.delta})
    for chosen in ranks:
      try:
        jax.eval_shape(lambda p, chosen=chosen: cj.factorize.svd(p, **chosen), params)
      except ValueError as error:
        raise ValueError(f"config.lrtf: {part}: {error}") from None


def _shapes(model: Any, builder: Any) -> Any:
  """Returns the parameters' shapes."""
  image = builders.image_shape(builder)
  made = models.create(model.name, num_classes=builders.num_classes(builder),
                       **model.arguments.to_dict())
  init = functools.partial(made.init, train=False)
  return jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, *image)))["params"]


def _check_choice(field: str, value: str, choices: Any) -> None:
  if value not in choices:
    raise ValueError(f"config.{field}={value!r}: may be one of {', '.join(choices)}")


def selected(config: Any) -> list[str]:
  """Returns the combinations that `config.combos` ("all", or names and commas) asks for."""
  return list(COMBOS) if config.combos == "all" else config.combos.split(",")
