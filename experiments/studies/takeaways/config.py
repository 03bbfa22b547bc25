"""What the fields of the takeaways study's configuration may be, and the rounds they stand for."""

from __future__ import annotations

import math
from typing import Any

from experiments.studies import checks, rules


class Rounds(rules.Rule):
  """Rounds of pruning, in order."""

  text = "rising whole numbers from 1, in parentheses"

  def fits(self, value: Any) -> bool:
    each = rules.Each(rules.count(1), least=1)
    return each.fits(value) and list(value) == sorted(set(value))


FIELDS = {
    "pruning.rounds": Rounds(), "pruning.where": rules.Pattern(),
    "ensemble": rules.Each(rules.Elsewhere("the name of one of the students"), least=1)}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  checks.config(config, FIELDS)
  _check_rounds(config)
  if "combined" not in config.students:
    raise ValueError(f"config.students={', '.join(config.students)}: must have 'combined'")
  for name in config.ensemble:
    checks.choice("ensemble", name, config.students)


def _check_rounds(config: Any) -> None:
  # Table III starts from the model that is pruned by 77 %.
  needed = nearest_round(config, 0.77)
  if needed not in config.pruning.rounds:
    raise ValueError(f"config.pruning.rounds={config.pruning.rounds}: must have {needed}, the "
                     "round nearest to 77 %")


def sparsity(config: Any, number: int) -> float:
  """Returns the fraction of the weights that is pruned after a round.

  Args:
    config: the study's configuration.
    number: the round's, from 1; 0 is before the first.
  """
  return 1 - (1 - config.pruning.fraction) ** number


def nearest_round(config: Any, rate: float) -> int:
  """Returns the round, from 1, that comes nearest to a compression rate.

  Args:
    config: the study's configuration.
    rate: fraction of the weights that is pruned, below 1.
  """
  rounds = math.log(1 - rate) / math.log(1 - config.pruning.fraction)
  return max(1, round(rounds))


def stage_of_round(number: int) -> str:
  """Returns the name of a round's stage.

  Args:
    number: the round's, from 1.

  Example:
    >>> stage_of_round(9)
    'pruned09'
  """
  return f"pruned{number:02d}"


def pruned(config: Any, rate: float) -> str:
  """Returns the stage of the round that comes nearest to a compression rate.

  Args:
    config: the study's configuration.
    rate: fraction of the weights that is pruned, below 1.

  Example:
    >>> from ml_collections import ConfigDict
    >>> [pruned(ConfigDict({"pruning": {"fraction": 0.15}}), rate) for rate in (0.77, 0.93)]
    ['pruned09', 'pruned16']
  """
  return stage_of_round(nearest_round(config, rate))
