"""What a plan by layer is compared with: the same for all layers, at the same bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import compress_jax as cj

_STEPS = 9  # halvings of the sparsity, at most: within 0.2 % of the weights
_NEAR = 0.01  # of the bytes allowed: near enough to stop


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniformPlan:
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
    """Returns compressed parameters.

    Args:
      params: dense parameters.
      layers: paths of those that are compressed; the others stay.
    """
    where = frozenset(layers).__contains__
    if self.sparsity:
      params = cj.prune.magnitude(params, self.sparsity, scope=self.scope, where=where)
    if self.bits is not None:
      params = cj.quantize.affine(params, self.bits, where=where)
    return params


def matched(params: Any, layers: Sequence[str], scope: str, bits: Sequence[int | None],
            accuracy: Callable[[Any], float], size: Callable[[Any], int],
            most: int) -> list[UniformPlan]:
  """Returns, for each number of bits, the smallest sparsity for all layers that fits.

  Args:
    params: dense parameters.
    layers: paths of those that are compressed.
    scope: see `UniformPlan`.
    bits: the numbers of bits to try.
    accuracy: of compressed parameters.
    size: bytes of compressed parameters.
    most: bytes allowed.

  Returns:
    The most accurate first; where nothing is small enough, the sparsest of the fewest bits.
  """
  found = []
  for width in bits:
    plan = _fitting(params, layers, scope, width, size, most)
    if plan is not None:
      found.append(plan)
  if not found:
    fewest = min((width for width in bits if width is not None), default=None)
    return [UniformPlan(scope=scope, sparsity=1 - 0.5**_STEPS, bits=fewest)]
  return sorted(found, key=lambda plan: accuracy(plan.apply(params, layers)), reverse=True)


def _fitting(params: Any, layers: Sequence[str], scope: str, bits: int | None,
             size: Callable[[Any], int], most: int) -> UniformPlan | None:
  """Returns the least sparse plan that fits, or comes within a hundredth of it; else None."""
  dense = UniformPlan(scope=scope, sparsity=0.0, bits=bits)
  if size(dense.apply(params, layers)) <= most:
    return dense
  # By halving: more sparsity never takes more bytes.
  low, high, fits = 0.0, 1.0, None
  for _ in range(_STEPS):
    plan = UniformPlan(scope=scope, sparsity=(low + high) / 2, bits=bits)
    nbytes = size(plan.apply(params, layers))
    if nbytes > most:
      low = plan.sparsity
      continue
    fits, high = plan, plan.sparsity
    if nbytes > (1 - _NEAR) * most:
      break
  return fits
