"""What may be done to one layer, and plans that say it for every layer."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compress_jax import checks, factorize, prune, quantize, tree
from compress_jax.quantize.weights import Axis, scale_shape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
  """What is done to one layer, in this order: factorize, prune, quantize.

  Attributes:
    sparsity: fraction of the layer's weights (of both factors together, where it
      is factorized) that is pruned by magnitude, 0 to below 1; 0 makes no mask.
    bits: of the weights, 2 to 16, symmetric; None leaves floats.
    rank: of a truncated SVD, from 1; None leaves one tensor.
    axis: the axis or axes along which every index has its own scale, as in
      `quantize.affine`; the last is the outputs of Flax's kernels. None is one scale. Where
      there are no bits it stays -1.

  Raises:
    ValueError: a number out of range, bits or a rank that are not whole numbers, or an axis without
      bits.

  Example:
    >>> str(Choice(sparsity=0.5, bits=4)), str(Choice())
    ('50% 4b', 'dense')
  """

  sparsity: float = 0.0
  bits: int | None = None
  rank: int | None = None
  axis: int | tuple[int, ...] | None = -1

  def __post_init__(self) -> None:
    if not 0 <= self.sparsity < 1:
      raise ValueError(f"sparsity={self.sparsity}: must be from 0 to below 1")
    if self.bits is not None and not (checks.is_whole(self.bits) and 2 <= self.bits <= 16):
      raise ValueError(f"bits={self.bits}: must be None or a whole number from 2 to 16")
    if self.rank is not None and not (checks.is_whole(self.rank) and self.rank >= 1):
      raise ValueError(f"rank={self.rank}: must be None or a whole number from 1")
    several = isinstance(self.axis, tuple) and all(map(checks.is_whole, self.axis))
    if self.axis is not None and not several and not checks.is_whole(self.axis):
      raise ValueError(f"axis={self.axis!r}: must be None, a whole number or a tuple of them")
    if self.bits is None and self.axis != -1:
      # Choices that do the same must be equal: a table has a number for each.
      raise ValueError(f"axis={self.axis}: must be -1 where bits is None")

  def __str__(self) -> str:
    parts = []
    if self.rank is not None:
      parts.append(f"rank {self.rank}")
    if self.sparsity > 0:
      parts.append(f"{100 * self.sparsity:.3g}%")
    if self.bits is not None:
      parts.append(f"{self.bits}b")
    return " ".join(parts) or "dense"


Plan = Mapping[str, Choice]
Options = Mapping[str, Sequence[Choice]]


def options(params: Any, *, sparsities: Sequence[float] = (0.0, 0.5, 0.75, 0.9),
            bits: Sequence[int | None] = (None, 8, 4, 3, 2),
            ranks: Sequence[float | None] = (None, 0.5), axis: Axis = -1,
            where: tree.Where = None) -> dict[str, tuple[Choice, ...]]:
  """Returns what may be done to every layer: all combinations.

  Args:
    params: a parameter tree.
    sparsities: see `Choice`.
    bits: see `Choice`.
    ranks: as fractions of r_max, where the factors have as many parameters as the
      layer (`factorize.max_rank`), above 0, up to 1; None is no factorization. A
      rank that a layer cannot have is left out there.
    axis: the axis or axes along which every index has its own scale, or a function of the path,
      as `quantize.channel_axes` finds it; the last suits Flax's kernels.
    where: which leaves, as for the transforms; by default those with two or more
      dimensions.

  Returns:
    {path: choices}, in tree order. The first choice of each leaves the layer as it is.

  Raises:
    ValueError: a number out of range, or nothing selected.

  Example:
    >>> import jax.numpy as jnp
    >>> found = options({"w": jnp.ones((8, 8))}, sparsities=(0.5,), bits=(8,), ranks=(None, 0.5))
    >>> [str(choice) for choice in found["w"]]
    ['dense', '50% 8b', 'rank 2 50% 8b']
  """
  for fraction in ranks:
    if fraction is not None and not 0 < fraction <= 1:
      raise ValueError(f"ranks: {fraction} must be None, or above 0, up to 1")
  found = {}
  for path, x in tree.select(params, where)[0]:
    combinations = itertools.product(_ranks(x.shape, ranks), bits, sparsities)
    own = axis(path) if callable(axis) else axis
    made = [Choice(sparsity=float(s), bits=b, rank=r, axis=-1 if b is None else own)
            for r, b, s in combinations]
    # One of the combinations can be the untouched layer as well.
    found[path] = tuple(dict.fromkeys([Choice(), *made]))
  return found


def _ranks(shape: tuple[int, ...], fractions: Sequence[float | None]) -> list[int | None]:
  """Returns the different ranks that a layer of this shape can have, None as it is."""
  found: list[int | None] = []
  for fraction in fractions:
    rank = None if fraction is None else int(fraction * factorize.max_rank(shape))
    # A vector has no factors, and a small matrix may have none with fewer parameters.
    possible = rank is None or (rank > 0 and len(shape) > 1)
    if possible and rank not in found:
      found.append(rank)
  return found


def apply(params: Any, plan: Plan) -> Any:
  """Returns the parameters compressed as a plan says.

  Args:
    params: a parameter tree.
    plan: {path: choice}; leaves that it does not name stay as they are.

  Returns:
    The tree with `LowRank`, `Masked` and `FakeQuant` leaves; `freeze` deploys it.

  Raises:
    ValueError: a path that is not in the tree, or a rank that a layer cannot have.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> plan = {"w": Choice(sparsity=0.5, bits=8)}
    >>> cj.count(apply({"w": jnp.arange(4.0).reshape(2, 2), "b": jnp.ones(2)}, plan))
    (6, 4)
  """
  return applier(params)(plan)


def applier(params: Any) -> Callable[[Plan], Any]:
  """Returns `apply` for these parameters; each layer's choice is worked out once.

  Args:
    params: a parameter tree.

  Returns:
    A function from a plan to the compressed tree.

  Raises:
    ValueError: two leaves have the same path; otherwise from that function, as from `apply`.
  """
  flat, structure = tree.entries(params)
  by_path = tree.by_path(params)

  # A mask takes a quarter of its float32 layer; the bound keeps large models in memory.
  @functools.lru_cache(maxsize=512)
  def made(path: str, choice: Choice) -> Any:
    return compressed(path, by_path[path], choice)

  def applied(plan: Plan) -> Any:
    for path in plan:
      known("plan", path, by_path)
    leaves = [made(path, plan[path]) if path in plan else x for path, x in flat]
    return structure.unflatten(leaves)

  return applied


def known(what: str, path: str, leaves: Mapping[str, Any]) -> Any:
  """Returns the leaf at a path.

  Args:
    what: the argument that names the path, for the error.
    path: of the leaf.
    leaves: {path: array or leaf}.

  Raises:
    ValueError: there is none.
  """
  if path not in leaves:
    raise ValueError(f"{what}: no leaf {path!r}; must be one of: {', '.join(leaves)}")
  return leaves[path]


def compressed(path: str, x: Any, choice: Choice) -> Any:
  """Returns one leaf, compressed.

  Args:
    path: of the leaf; errors name it.
    x: the leaf.
    choice: what is done to it.

  Returns:
    The compressed leaf; `x` itself if the choice changes nothing.

  Raises:
    ValueError: a rank that the leaf cannot have.
  """
  one = {path: x}
  # The transforms' default would leave vectors alone, but a plan names its leaves.
  every = lambda path: True
  if choice.rank is not None:
    one = factorize.svd(one, rank=choice.rank, where=every)
  if choice.sparsity:
    one = prune.magnitude(one, choice.sparsity, where=every)
  if choice.bits is not None:
    axis = choice.axis if choice.rank is None else _axis_of_factors(path, choice.axis, x.shape)
    one = quantize.affine(one, choice.bits, axis=axis, where=every)
  return one[path]


def _axis_of_factors(path: str, axis: Any, shape: tuple[int, ...]) -> Axis:
  """Returns which axis of each factor has a layer's outputs, from the layer's own axis."""
  scale_shape(path, shape, axis)  # refuses an axis that the layer does not have
  if axis is None:
    return None
  own = {a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))}
  if len(shape) - 1 in own:
    return -1  # outputs are last, in the second factor; the first one's are the ranks
  # Outputs are in front: the first factor keeps them there, the second one's are the ranks.
  return lambda part: 0 if part == f"{path}/v" else tuple(own)
