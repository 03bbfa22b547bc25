"""Integer grids for weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from compress_jax import tree
from compress_jax.leaves import FakeFloat, FakeQuant, Float, Leaf, Quantized, dense_of, grid
from compress_jax.leaves.base import Array

Axis = int | tuple[int, ...] | None


def affine(params: Any, bits: Array | int, *, axis: Axis = -1, symmetric: bool = True,
           group: int | None = None, where: tree.Where = None) -> Any:
  """Puts weights on an integer grid that spans their range.

  Args:
    params: a parameter tree.
    bits: 2 to 16; may be traced.
    axis: the axis or axes along which every index has its own scale; the default
      is the last, the output channels of a Flax kernel. None is one scale per
      tensor.
    symmetric: whether 0.0 is the grid's middle; if not, a zero point moves it.
    group: consecutive inputs (along axis -2, the input channels of a Flax kernel)
      that have a scale of their own; must divide that axis. None is no groups.
    where: regular expression or predicate on the path; by default every leaf
      with two or more dimensions. A low-rank leaf has its factors quantized.

  Returns:
    The tree with `FakeQuant` leaves; masks survive, pruned weights stay 0.

  Raises:
    ValueError: bits or axis out of range, a group that does not divide, nothing
      selected, weights not finite.

  Source: Jacob et al. 2018, "Quantization and training of neural networks for
  efficient integer-arithmetic-only inference"; ONNX QuantizeLinear.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> leaf = cj.quantize.affine({"w": jnp.array([[1.27], [0.5]])}, bits=8)["w"]
    >>> cj.freeze(leaf).integers.tolist()
    [[127], [50]]
  """
  bits, wide = checked_bits(bits)
  chosen, rebuild = tree.select_parts(params, where)
  return rebuild([_quantized(path, x, bits, axis, symmetric, group, wide) for path, x in chosen])


def learned(params: Any, bits: Array | int, *, axis: Axis = -1, group: int | None = None,
            where: tree.Where = None) -> Any:
  """Puts weights on symmetric grids whose steps train with them (LSQ).

  A step starts at 2 mean|w| / sqrt(largest integer); its gradient is scaled by
  1 / sqrt(weights it serves * largest integer).

  Args:
    params: a parameter tree.
    bits: as in `affine`.
    axis: as in `affine`; None is the paper's.
    group: as in `affine`.
    where: as in `affine`.

  Returns:
    The tree with `FakeQuant` leaves that also train their `scale`.

  Raises:
    ValueError: as in `affine`.

  Source: Esser et al. 2020, "Learned step size quantization", sections 2.1 and 2.2.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.quantize.learned({"w": jnp.eye(4)}, bits=4)
    >>> cj.partition(params)[0]["w"].scale.shape
    (1, 4)
  """
  def one(path: str, x: Any) -> FakeQuant:
    leaf = _quantized(path, x, bits, axis, True, group, wide)
    (mean,) = _shared((jnp.mean,), path, jnp.abs(dense_of(leaf.value)), axis, group)
    scale = 2 * mean / jnp.sqrt(grid.limits(leaf.bits, True)[1])
    return dataclasses.replace(leaf, scale=jnp.where(scale > 0, scale, 1.0), learned=True)

  bits, wide = checked_bits(bits)
  chosen, rebuild = tree.select_parts(params, where)
  return rebuild([one(path, x) for path, x in chosen])


def checked_bits(bits: Array | int) -> tuple[Array, bool]:
  """Returns bits as an int32 scalar, and whether it may be more than 8.

  Raises:
    ValueError: what is known of it is not one whole number from 2 to 16.
  """
  if jnp.ndim(bits) or not jnp.issubdtype(jnp.result_type(bits), jnp.integer):
    raise ValueError(f"bits={bits}: may be one whole number from 2 to 16")
  tree.check_number("bits", bits, 2, 16)
  known = tree.concrete(bits)
  return jnp.asarray(bits, jnp.int32), known is None or bool(known > 8)


def unrounded(x: Array | Leaf) -> Array | Leaf:
  """Returns what is under any rounding of `x`: the value that a new one starts from."""
  while isinstance(x, FakeQuant | FakeFloat):
    x = x.value
  return dense_of(x) if isinstance(x, Quantized | Float) else x


def _quantized(path: str, x: Array | Leaf, bits: Array, axis: Axis, symmetric: bool,
               group: int | None, wide: bool) -> FakeQuant:
  tree.check_finite(path, x)
  value = unrounded(x)
  low, high = _shared((jnp.min, jnp.max), path, dense_of(value).astype(jnp.float32), axis, group)
  scale, zero_point = grid.affine(low, high, bits, symmetric)
  return FakeQuant(value, scale, zero_point, bits, getattr(x, "input", None), wide=wide)


def _shared(reductions: tuple[Callable[..., Array], ...], path: str, w: Array, axis: Axis,
            group: int | None) -> list[Array]:
  """Reduces over the weights that share a scale; the results have the axes of `w`."""
  over = reduced_axes(path, w.ndim, axis)
  if group is None:
    return [f(w, axis=over, keepdims=True) for f in reductions]
  at = w.ndim - 2
  if at < 0 or group < 1 or w.shape[at] % group:
    raise ValueError(f"{path}: group={group}: must divide axis -2 of a {w.shape} weight")
  w = w.reshape(*w.shape[:at], w.shape[at] // group, group, w.shape[-1])
  # Of the inputs only each group is reduced; the axes behind it have moved on by one.
  inner = (*(a + (a > at) for a in over if a != at), at + 1)
  return [f(w, axis=inner, keepdims=True).squeeze(at + 1) for f in reductions]


def reduced_axes(path: str, ndim: int, axis: Axis) -> tuple[int, ...]:
  """Returns the axes over which one scale is shared.

  Raises:
    ValueError: an axis that is kept is none of the `ndim` axes of the leaf at `path`.
  """
  kept = () if axis is None else tuple(axis) if isinstance(axis, tuple | list) else (axis,)
  for a in kept:
    if not hasattr(a, "__index__") or not -ndim <= a < ndim:
      raise ValueError(f"{path}: axis={axis}: may be from {-ndim} to {ndim - 1}")
  return tuple(i for i in range(ndim) if i not in {a % ndim for a in kept})
