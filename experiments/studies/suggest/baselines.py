"""What a plan by layer is compared with: the same for all layers, at the same bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import compress_jax as cj

_STEPS = 9  # halvings of the sparsity, at most: within 0.2 % of the weights
_NEAR = 0.01  # near enough to the bytes allowed


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
            most: int) -> list[Same]:
  """Returns, for each number of bits, the smallest sparsity for all layers that fits.

  Args:
    params: dense parameters.
    layers: paths of those that are compressed.
    scope: see `Same`.
    bits: the numbers of bits to try.
    accuracy: of compressed parameters.
    size: bytes of compressed parameters.
    most: bytes allowed.

  Returns:
    The most accurate first; where nothing is small enough, the sparsest of the fewest bits.
  """
  found = [same for b in bits if (same := _fitting(params, layers, scope, b, size, most))]
  found = found or [Same(scope=scope, sparsity=1 - 0.5**_STEPS,
                         bits=min((b for b in bits if b), default=None))]
  return sorted(found, key=lambda same: -accuracy(same.apply(params, layers)))


def _fitting(params: Any, layers: Sequence[str], scope: str, bits: int | None,
             size: Callable[[Any], int], most: int) -> Same | None:
  """Returns the least sparse that fits, or comes within a hundredth of it; None if nothing does."""
  low, high, fits = 0.0, 1.0, None
  for at in [0.0, *[None] * _STEPS]:
    made = Same(scope=scope, sparsity=(low + high) / 2 if at is None else at, bits=bits)
    nbytes = size(made.apply(params, layers))
    if nbytes > most:
      low = made.sparsity
      continue
    fits, high = made, made.sparsity
    if at == 0.0 or nbytes > (1 - _NEAR) * most:
      break
  return fits
