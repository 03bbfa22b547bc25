"""Integer grids for weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from compress_jax import tree
from compress_jax.leaves import FakeQuant, Leaf, Quantized, dense_of, grid
from compress_jax.leaves.base import Array


def affine(params: Any, bits: Array | int, *, axis: int | tuple[int, ...] | None = -1,
           symmetric: bool = True, where: tree.Where = None) -> Any:
  """Puts weights on an integer grid that spans their range.

  Args:
    params: a parameter tree.
    bits: 2 to 16; may be traced.
    axis: the axis or axes along which every index has its own scale; the default
      is the last, the output channels of a Flax kernel. None is one scale per
      tensor.
    symmetric: whether 0.0 is the grid's middle; if not, a zero point moves it.
    where: regular expression or predicate on the path; by default every leaf
      with two or more dimensions. A low-rank leaf has its factors quantized.

  Returns:
    The tree with `FakeQuant` leaves; masks survive, pruned weights stay 0.

  Raises:
    ValueError: bits or axis out of range, nothing selected, weights not finite.

  Source: Jacob et al. 2018, "Quantization and training of neural networks for
  efficient integer-arithmetic-only inference"; ONNX QuantizeLinear.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> leaf = cj.quantize.affine({"w": jnp.array([[1.27], [0.5]])}, bits=8)["w"]
    >>> cj.freeze(leaf).integers.tolist()
    [[127], [50]]
  """
  bits = _checked_bits(bits)
  chosen, rebuild = tree.select_parts(params, where)
  return rebuild([_quantized(path, x, bits, axis, symmetric) for path, x in chosen])


def learned(params: Any, bits: Array | int, *, axis: int | tuple[int, ...] | None = -1,
            where: tree.Where = None) -> Any:
  """Puts weights on symmetric grids whose steps train with them (LSQ).

  A step starts at 2 mean|w| / sqrt(largest integer); its gradient is scaled by
  1 / sqrt(weights it serves * largest integer).

  Args:
    params: a parameter tree.
    bits: as in `affine`.
    axis: as in `affine`; None is the paper's.
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
    leaf = _quantized(path, x, bits, axis, True)
    mean = jnp.abs(dense_of(leaf.value)).mean(_reduced_axes(path, leaf.ndim, axis), keepdims=True)
    scale = 2 * mean / jnp.sqrt(grid.limits(leaf.bits, True)[1])
    return dataclasses.replace(leaf, scale=jnp.where(scale > 0, scale, 1.0), learned=True)

  bits = _checked_bits(bits)
  chosen, rebuild = tree.select_parts(params, where)
  return rebuild([one(path, x) for path, x in chosen])


def _checked_bits(bits: Array | int) -> Array:
  """Returns bits as an int32 scalar, after checking what is known of it."""
  if jnp.ndim(bits) or not jnp.issubdtype(jnp.result_type(bits), jnp.integer):
    raise ValueError(f"bits={bits}: may be one whole number from 2 to 16")
  tree.check_number("bits", bits, 2, 16)
  return jnp.asarray(bits, jnp.int32)


def _quantized(path: str, x: Array | Leaf, bits: Array, axis: Any, symmetric: bool) -> FakeQuant:
  tree.check_finite(path, x)
  value = x.value if isinstance(x, FakeQuant) else dense_of(x) if isinstance(x, Quantized) else x
  dense = dense_of(value).astype(jnp.float32)
  over = _reduced_axes(path, dense.ndim, axis)
  low, high = (f(dense, axis=over, keepdims=True) for f in (jnp.min, jnp.max))
  scale, zero_point = grid.affine(low, high, bits, symmetric)
  return FakeQuant(value, scale, zero_point, bits, getattr(x, "input", None))


def _reduced_axes(path: str, ndim: int, axis: Any) -> tuple[int, ...]:
  kept = () if axis is None else tuple(axis) if isinstance(axis, tuple | list) else (axis,)
  for a in kept:
    if not hasattr(a, "__index__") or not -ndim <= a < ndim:
      raise ValueError(f"{path}: axis={axis}: may be from {-ndim} to {ndim - 1}")
  return tuple(i for i in range(ndim) if i not in {a % ndim for a in kept})
