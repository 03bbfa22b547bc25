"""What a plan by layer is compared with: the same for all layers, at the same bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import compress_jax as cj

_STEPS = 9  # halvings of the sparsity: within 0.2 % of the weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Same:
  """One sparsity and one number of bits for all layers.

  Attributes:
    scope: "layer" prunes as much of each layer, "global" ranks all weights
      together (`cj.prune.magnitude`).
    sparsity: 0 to below 1.
    bits: or None for floats.
  """

  scope: str
  sparsity: float
  bits: int | None

  def __str__(self) -> str:
    return str(cj.search.Choice(sparsity=round(self.sparsity, 3), bits=self.bits))

  def apply(self, params: Any, layers: Sequence[str]) -> Any:
    """Returns the parameters with those layers compressed."""
    where = frozenset(layers).__contains__
    if self.sparsity:
      params = cj.prune.magnitude(params, self.sparsity, scope=self.scope, where=where)
    return params if self.bits is None else cj.quantize.affine(params, self.bits, where=where)


def matched(params: Any, layers: Sequence[str], scope: str, bits: Sequence[int | None],
            accuracy: Callable[[Any], float], size: Callable[[Any], int],
            most: int) -> tuple[Same | None, float, int]:
  """Returns the most accurate of one sparsity for all layers within so many bytes.

  For every number of bits the sparsity is the smallest that fits, found by halving.

  Args:
    params: dense parameters.
    layers: paths of those that are compressed.
    scope: see `Same`.
    bits: the numbers of bits to try.
    accuracy: of compressed parameters.
    size: bytes of compressed parameters.
    most: bytes allowed.

  Returns:
    (what, accuracy, bytes); None where nothing is small enough.
  """
  best: tuple[Same | None, float, int] = (None, -1.0, 0)
  for b in bits:
    low, high, fits = 0.0, 1.0, None
    for sparsity in [0.0, *[None] * _STEPS]:
      at = (low + high) / 2 if sparsity is None else sparsity
      made = Same(scope=scope, sparsity=at, bits=b)
      nbytes = size(made.apply(params, layers))
      if nbytes <= most:
        fits, high = (made, nbytes), at
      else:
        low = at
      if high == 0:
        break
    if fits is not None and (score := accuracy(fits[0].apply(params, layers))) > best[1]:
      best = (fits[0], score, fits[1])
  return best
