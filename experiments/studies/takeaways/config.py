"""What the fields of the takeaways study may be, and the rounds that they stand for."""

from __future__ import annotations

import math
from typing import Any

from experiments.studies import base

_LIMITS = {
    "distil.temperature": (1e-3, 1e3), "distil.alpha": (0, 1), "pruning.fraction": (0.001, 0.999),
    "static.bits": (2, 16), "static.activation_bits": (2, 16), "static.images": (1, 10**9),
    "qat.bits": (2, 16), "qat.activation_bits": (2, 16), "qat.images": (1, 10**9),
    "calls": (1, 10**9), "seeds": (1, 10**4)}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  base.check(config, _LIMITS)
  rounds = list(config.pruning.rounds)
  if not rounds or rounds != sorted(set(rounds)) or rounds[0] < 1:
    raise ValueError(f"config.pruning.rounds={tuple(rounds)}: may be rising whole numbers from 1")
  if (at_77 := pruned(config, 0.77)) not in [f"pruned{n:02d}" for n in rounds]:
    raise ValueError(f"config.pruning.rounds={tuple(rounds)}: may not lack {int(at_77[6:])}, the "
                     "round nearest to 77 %")
  if "combined" not in config.students:
    raise ValueError(f"config.students={', '.join(config.students)}: may not lack 'combined'")
  for name in config.ensemble:
    if name not in config.students:
      raise ValueError(f"config.ensemble: {name!r} may be one of {', '.join(config.students)}")


def sparsity(config: Any, number: int) -> float:
  """Returns the fraction of the weights that is pruned after a round, from 1."""
  return 1 - (1 - config.pruning.fraction) ** number


def pruned(config: Any, rate: float) -> str:
  """Returns the stage of the round that comes nearest to a compression rate, below 1.

  Example:
    >>> from ml_collections import ConfigDict
    >>> [pruned(ConfigDict({"pruning": {"fraction": 0.15}}), rate) for rate in (0.77, 0.93)]
    ['pruned09', 'pruned16']
  """
  rounds = math.log(1 - rate) / math.log(1 - config.pruning.fraction)
  return f"pruned{max(1, round(rounds)):02d}"
