"""Low-rank factorization of the linear layers."""

from __future__ import annotations

import compress_jax as cj
from experiments.training.techniques.trained import Outcome, Trained


def factorize(parent: Trained, *, rank: int, delta: int) -> Outcome:
  """Factorizes the linear layers; masks that they had are gone.

  Args:
    parent: the model.
    rank: of every layer; 0 uses `delta`.
    delta: the rank is r_max - delta, where r_max = d_in * d_out / (d_in + d_out).

  Returns:
    The model with `LowRank` linear layers, and {"ranks"}.

  Raises:
    ValueError: a layer cannot have such a rank.

  Source: equation 2 of "Combinatorics with model compression".
  """
  if rank:
    params = cj.factorize.svd(parent.params, rank=rank)
  else:
    params = cj.factorize.svd(parent.params, delta=delta)
  ranks = {path: x.ranks[0] for path, x in cj.entries(params)[0] if cj.is_leaf(x) and x.ranks}
  return parent.with_params(params), {"ranks": ranks}
