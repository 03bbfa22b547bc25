"""What each leaf of a tree is and takes, as plain numbers that a manifest can keep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress_jax.io import containers, payloads
from compress_jax.io.container import most_bytes
from compress_jax.io.structure import rebuild
from compress_jax.leaves import (
  UnsupportedError,
  dense_of,
  freeze_of,
  input_grid_of,
  is_leaf,
  is_node,
  parts_of,
)
from compress_jax.leaves.base import bits_of
from compress_jax.leaves.tiles import tiled

BLOCK = (4, 4)  # of leaves that were not pruned in blocks
# Bytes of the largest array that is made of arrays which are far smaller.
LARGEST_SPREAD = 1 << 31
_FAR_SMALLER = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeafSummary:
  """One leaf, described; what is not known without its weights is None.

  Attributes:
    path: "/"-joined.
    kind: the leaf's type, then what it holds: "FakeQuant > Masked"; or "array".
    shape: of the array that it stands for.
    dtype: of what holds it, where that is several arrays of the largest: "int8" of the codes
      of a quantized weight, "float32" of one that trains with masks.
    params: numbers that it is made of; a low-rank leaf's are its factors'.
    nonzero: how many of them are not zero.
    nonfinite: how many of them are NaN or infinite; None also in what version 0.8 wrote.
    sparsity: the fraction of `params` that is zero.
    block: rows and columns of the blocks that `block_sparsity` counts: the leaf's
      own, or else `BLOCK`.
    block_sparsity: the fraction of blocks with nothing but zeros.
    rank: of a factorized leaf; two for Tucker-2.
    bits: of a stored weight, when deployed; of several factors, the largest one's.
    factor_bits: of each factor's weights, where they are not the same; else None.
    input_bits: of the layer's quantized input.
    scale_min: the smallest step of its grids.
    scale_max: the largest.
    dense_bytes: elements of the array that it stands for times the bytes of its own dtype.
    nonzero_bytes: non-zero elements times the bits of their stored type.
    packed_bytes: every stored element at its bits, masks and scales included.
    gzip_bytes: the stored arrays of this leaf through gzip; only where asked for.
  """

  path: str
  kind: str
  shape: tuple[int, ...]
  dtype: str
  params: int
  nonzero: int | None = None
  nonfinite: int | None = None
  sparsity: float | None = None
  block: tuple[int, ...] | None = None
  block_sparsity: float | None = None
  rank: tuple[int, ...] | None = None
  bits: int | None = None
  factor_bits: tuple[int, ...] | None = None
  input_bits: int | None = None
  scale_min: float | None = None
  scale_max: float | None = None
  dense_bytes: float
  nonzero_bytes: float | None = None
  packed_bytes: float | None = None
  gzip_bytes: int | None = None


  @property
  def learns(self) -> bool:
    """Whether it holds parameters: floats, complex numbers or a leaf, no counter, key or index."""
    return self.kind != "array" or jnp.issubdtype(jnp.dtype(self.dtype), jnp.inexact)


def summarize(params: Any, *, gzip: bool = False) -> list[LeafSummary]:
  """Describes every leaf of a tree.

  Args:
    params: any pytree; trainable leaves are measured as deployed.
    gzip: whether `gzip_bytes` is filled in, which takes longest.

  Returns:
    One description for each leaf, in tree order. Bytes have fractions where an
    element takes only part of one.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> leaf = summarize(cj.prune.magnitude({"w": jnp.arange(64.0).reshape(8, 8)}, 0.75))[0]
    >>> leaf.kind, leaf.sparsity, leaf.dense_bytes, leaf.nonzero_bytes, leaf.packed_bytes
    ('Masked', 0.75, 256.0, 64.0, 72.0)
  """
  return [_measured(path, x, gzip) for path, x in containers.measurable(params)]


def outline(structure: Any) -> list[LeafSummary]:
  """Describes the leaves of a structure whose arrays are not at hand.

  Args:
    structure: from `describe`.

  Returns:
    As `summarize`, with None for what only the weights tell.

  Example:
    >>> import numpy as np
    >>> from compress_jax.io.structure import describe
    >>> outline(describe({"w": np.ones((2, 3), np.float32)})[0])[0].dense_bytes
    24.0
  """
  def hollow(entry: Mapping[str, Any]) -> np.ndarray:
    # One element, seen from everywhere: takes no memory.
    return np.broadcast_to(np.zeros((), jnp.dtype(entry["dtype"])), entry["shape"])

  tree = rebuild(structure, hollow)
  return [_outlined(path, x) for path, x in containers.measurable(tree)]


def from_json(entry: Mapping[str, Any]) -> LeafSummary:
  """Returns the description that `to_json` made JSON of.

  Args:
    entry: its dict; fields of later versions are left out.

  Returns:
    The description.

  Example:
    >>> leaf = outline({"array": "", "shape": [2], "dtype": "int8"})[0]
    >>> from_json(to_json(leaf) | {"unheard_of": 1}) == leaf
    True
  """
  known = {}
  for field in dataclasses.fields(LeafSummary):
    if field.name in entry:
      value = entry[field.name]
      known[field.name] = tuple(value) if isinstance(value, list) else value
  return LeafSummary(**known)


def to_json(leaf: LeafSummary) -> dict[str, Any]:
  """Returns a description as a dict.

  Args:
    leaf: the description.

  Returns:
    Its fields, tuples as lists, without what is None.
  """
  known = {}
  for name, value in dataclasses.asdict(leaf).items():
    if value is not None:
      known[name] = list(value) if isinstance(value, tuple) else value
  return known


def kind(x: Any) -> str:
  """Returns what an array or leaf is, from the outside in.

  Args:
    x: an array or leaf.

  Returns:
    Names of leaf types, or "array".

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.quantize.affine(cj.prune.magnitude({"w": jnp.eye(2)}, 0.5), bits=8)
    >>> kind(params["w"])
    'FakeQuant > Masked'
  """
  if not is_node(x):
    return "array"
  parts = x.parts if is_leaf(x) else ()
  held = [kind(v) for name, v in x.fields().items() if is_leaf(v) or name in parts]
  if not held or set(held) == {"array"}:
    return type(x).__name__
  inner = held[0] if len(set(held)) == 1 else f"({', '.join(held)})"
  return f"{type(x).__name__} > {inner}"


def _outlined(path: str, x: Any) -> LeafSummary:
  """Returns what is known without the weights."""
  ranks = tuple(int(rank) for rank in x.ranks) if is_leaf(x) else ()
  return LeafSummary(
      path=path, kind=kind(x), shape=tuple(x.shape), dtype=_held_dtype(x),
      params=sum(part.size for part in parts_of(x).values()), rank=ranks or None,
      dense_bytes=x.size * bits_of(x.dtype) / 8)


def _held_dtype(x: Any) -> str:
  """Returns the dtype of the largest array that a leaf holds."""
  held = max(jax.tree.leaves(x), key=lambda array: array.nbytes, default=x)
  return jnp.dtype(held.dtype).name


def _measured(path: str, x: Any, gzip: bool) -> LeafSummary:
  known = _outlined(path, x)
  if any(map(too_large, parts_of(x).values())):
    return known
  try:
    frozen = freeze_of(x)  # stands for the same numbers, and is measured anyway
    found = {**_zeros(x, frozen), **_grids(x), **_stored(frozen, gzip)}
  except UnsupportedError:
    raise
  except ValueError:  # a stack of leaves is neither dense nor frozen as one
    return known
  return dataclasses.replace(known, **found)


def _zeros(x: Any, frozen: Any) -> dict[str, Any]:
  """Returns how many weights are zero, one by one and in blocks, and how many are no numbers."""
  values = [np.asarray(dense_of(part)) for part in parts_of(frozen).values()]
  size = sum(v.size for v in values)
  nonzero = sum(int(np.count_nonzero(v)) for v in values)
  found: dict[str, Any] = {"nonzero": nonzero, "nonfinite": sum(map(_nonfinite, values))}
  if size:
    found["sparsity"] = 1 - nonzero / size
  if size and len(values) == 1 and values[0].ndim >= 2:
    own = x.block_shape() if is_leaf(x) else None
    height, width = own or BLOCK
    found["block"] = int(height), int(width)
    found["block_sparsity"] = empty_blocks(values[0], found["block"])
  return found


def _nonfinite(values: np.ndarray) -> int:
  # Integers are finite, and numpy cannot ask some of them.
  if not jnp.issubdtype(values.dtype, jnp.inexact):
    return 0
  return values.size - int(np.count_nonzero(np.isfinite(values)))


def too_large(x: Any) -> bool:
  """Returns whether a leaf, or one in it, stands for more than its arrays could fill.

  A file of a few bytes may hold a leaf of blocks that no memory holds as an array. What is not
  much larger than its arrays is measured at any size; the rest up to the bound of a file, see
  `container.most_bytes`, and to `LARGEST_SPREAD` bytes.

  Args:
    x: array or leaf.

  Example:
    >>> import compress_jax as cj
    >>> blocks = cj.BlockSparse.from_dense(jnp.eye(4), block=(2, 2))
    >>> too_large(blocks), too_large(blocks.replace(dims=(10**9, 4), row_counts=()))
    (False, True)
  """
  leaves = filter(is_leaf, x.nodes() if is_node(x) else ())
  held = sum(array.nbytes for array in jax.tree.leaves(x))
  most = max(_FAR_SMALLER * held, min(most_bytes(held), LARGEST_SPREAD))
  return any(leaf.size * jnp.dtype(leaf.dtype).itemsize > most for leaf in leaves)


def empty_blocks(values: np.ndarray, block: tuple[int, int]) -> float:
  """Returns the fraction of blocks that hold only zeros.

  Args:
    values: array of two or more dimensions; rows are all axes but the last.
    block: rows and columns of a block; those at the edges may be smaller.

  Returns:
    0 to 1.

  Example:
    >>> import numpy as np
    >>> empty_blocks(np.eye(4), (2, 2))
    0.5
  """
  return 1 - float((tiled(values, block) != 0).any((2, 3)).mean())


def _grids(x: Any) -> dict[str, Any]:
  """Returns the range of the grids' steps, and the bits of the layer's quantized input."""
  scales, input_bits = [np.zeros(0)], []
  for leaf in filter(is_leaf, x.nodes() if is_node(x) else ()):
    if leaf.step_size() is not None:
      scales.append(np.asarray(leaf.step_size(), np.float64).ravel())
    grid = input_grid_of(leaf)
    if grid is not None:
      input_bits.append(int(np.asarray(grid.bits).max()))
  found: dict[str, Any] = {"input_bits": input_bits[0]} if input_bits else {}
  every = np.concatenate(scales)
  every = every[np.isfinite(every)]  # JSON has no other numbers
  if every.size:
    found |= {"scale_min": float(every.min()), "scale_max": float(every.max())}
  return found


def _stored(frozen: Any, gzip: bool) -> dict[str, Any]:
  """Returns bits, and the bytes by each convention; see `size.Size`."""
  everything = payloads.payloads({"x": frozen})
  bits = payloads.stored_bits(everything)
  found: dict[str, Any] = {
      "bits": bits.main, "nonzero_bytes": bits.nonzero / 8, "packed_bytes": bits.packed / 8}
  factors = parts_of(frozen)
  each = [_main_bits(part) for part in factors.values()] if len(factors) > 1 else []
  if len(set(each)) > 1:
    found["factor_bits"] = tuple(each)
  if gzip:
    found["gzip_bytes"] = payloads.gzip_bytes(everything)
  return found


def _main_bits(frozen: Any) -> int:
  return payloads.stored_bits(payloads.payloads({"x": frozen})).main


def total(values: Sequence[float | None]) -> int | None:
  """Returns a sum, rounded up.

  Args:
    values: the summands.

  Returns:
    The sum; None where a summand is not known.

  Example:
    >>> total([0.5, 1.0]), total([1.0, None])
    (2, None)
  """
  known = [v for v in values if v is not None]
  return math.ceil(sum(known)) if len(known) == len(values) else None
