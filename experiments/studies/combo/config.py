"""What the fields of the combination study's configuration may be."""

from __future__ import annotations

import functools
import itertools
import re
from typing import Any

import jax

import compress_jax as cj
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

# Beside the sixteen: "fisher" factorizes by the Fisher information, "tune" trains after
# either factorization.
_CHAIN = re.compile(r"(kd\+)?(imp\+)?((lrtf|fisher)\+(tune\+)?)?(q\+)?")


def check(config: Any) -> None:
  """Raises a ValueError that names the first number or name that cannot be used."""
  checks.config(config, {})
  if config.get("combo") and "of_study" not in config:
    raise ValueError("config.combo=True: must be False, because this study is the combinations: "
                     "config.combos says which")
  field = "combine.combos" if "of_study" in config else "combos"
  for combo in selected(config):
    # With a "+" behind each technique, the pattern needs no case for the last one.
    if combo != "base" and not (combo and _CHAIN.fullmatch(f"{combo}+")):
      raise ValueError(f"config.{field}={combo!r}: must be all, base, or some of kd, imp, lrtf or "
                       "fisher, tune (after either), q, in this order, with + between them")


def selected(config: Any) -> list[str]:
  """Returns the combinations that `config.combos` asks for, each once.

  Args:
    config: of the study; `combos` are names and commas, "all" is the sixteen.
  """
  names: list[str] = []
  for name in config.combos.split(","):
    names += COMBOS if name == "all" else [name]
  return list(dict.fromkeys(names))


def check_models(config: Any, builder: Any) -> None:
  """Checks that both models can be made and factorized; nothing is computed.

  Args:
    config: the study's configuration.
    builder: of the data set, says the images' shape.

  Raises:
    ValueError: names the model or the rank that cannot be.
  """
  shapes = checks.model_shapes(config, builder)
  for part in ("teacher", "student"):
    for chosen in _ranks(config):
      factorize = functools.partial(cj.factorize.svd, **chosen)
      try:
        # Shapes only: a rank that is too large is known before hours of training.
        jax.eval_shape(factorize, shapes[part])
      except ValueError as error:
        raise ValueError(f"config.lrtf: {part}: {error}") from None


def _ranks(config: Any) -> list[dict[str, int]]:
  """Returns the ranks that the study factorizes to, as `cj.factorize.svd` takes them."""
  ranks = [{"delta": delta} for delta in config.get("deltas", ())]
  if config.lrtf.rank:
    return [*ranks, {"rank": config.lrtf.rank}]
  return [*ranks, {"delta": config.lrtf.delta}]
