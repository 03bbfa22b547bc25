"""Integer grids for the inputs of layers: from data, or from each input itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress_jax import tree
from compress_jax.leaves import Activation, BlockSparse, Dynamic, FakeQuant, Quantized, grid
from compress_jax.leaves.base import Array
from compress_jax.lift.interpreter import Captured, capture
from compress_jax.quantize.observers import MinMax, Seen, see
from compress_jax.quantize.weights import checked_bits

Observer = Callable[[Seen, Array | int, bool], tuple[Array, Array]]


def calibrate(fn: Callable[..., Any], params: Any, batches: Iterable[Any], *,
              bits: Array | int = 8, symmetric: bool = False, observer: Observer | None = None,
              learned: bool = False) -> Any:
  """Gives every quantized weight a grid for its layer's input, from data.

  Args:
    fn: the model, called as `fn(params, batch)`.
    params: a tree with `FakeQuant` or `Quantized` leaves.
    batches: inputs of the model, all of one shape (one compilation).
    bits: 2 to 16, of the activations; may be traced.
    symmetric: whether the grids have 0.0 in the middle; if not, each spans
      exactly the range observed (extended to hold 0.0).
    observer: one of `quantize.observers`: from what was seen to the range; by
      default `MinMax()`.
    learned: whether the grids' steps train from there (LSQ).

  Returns:
    The tree with `input` set on every quantized leaf; `lift(fn)` then computes
    with integers on both sides.

  Raises:
    ValueError: bits out of range, no batch, no quantized leaf, or one that the
      model never multiplies by, or whose inputs are not finite.

  Source: static post-training quantization, per-tensor activations (Jacob et al.
  2018, section 3); learned steps: Esser et al. 2020.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.quantize.affine({"w": jnp.eye(2)}, bits=8)
    >>> apply = lambda params, x: x @ params["w"]
    >>> params = cj.quantize.calibrate(apply, params, [jnp.array([[0.0, 2.55]])])
    >>> round(float(params["w"].input.scale), 6)
    0.01
  """
  bits, wide = checked_bits(bits)
  _check_quantized(params, bits, wide)
  observer = observer or MinMax()
  seen = _seen(fn, params, batches, getattr(observer, "bins", 0))
  if not seen:
    raise ValueError("batches: calibration needs at least one")

  def grid_at(path: str) -> Activation:
    if path not in seen:
      raise ValueError(f"{path}: the model never multiplies by this quantized leaf; "
                       f"it may be one of: {', '.join(seen)}")
    ends = tree.concrete(jnp.stack([seen[path].low, seen[path].high]))
    if ends is not None and not np.isfinite(ends).all():
      raise ValueError(f"{path}: batches put NaN or infinity into its layer; inputs must be finite")
    scale, zero_point = grid.affine(*observer(seen[path], bits, symmetric), bits, symmetric)
    return Activation(scale, zero_point, bits, wide=wide, learned=learned)

  return _with_inputs(params, grid_at)


def dynamic(params: Any, *, bits: Array | int = 8, symmetric: bool = False) -> Any:
  """Makes every quantized weight's layer quantize its input over the input's own range.

  Args:
    params: a tree with `FakeQuant` or `Quantized` leaves.
    bits: 2 to 16, of the activations; may be traced.
    symmetric: whether the grids have 0.0 in the middle.

  Returns:
    The tree with `Dynamic` inputs; no data is needed.

  Raises:
    ValueError: bits out of range, no quantized leaf.

  Source: dynamic quantization (Gholami et al. 2022, "A survey of quantization
  methods", section III-D).

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.quantize.dynamic(cj.quantize.affine({"w": jnp.eye(2)}, bits=8))
    >>> cj.lift(lambda p, x: x @ p["w"])(params, jnp.array([[0.0, 2.55]])).round(4).tolist()
    [[0.0, 2.549999952316284]]
  """
  bits, wide = checked_bits(bits)
  _check_quantized(params, bits, wide)
  return _with_inputs(params, lambda path: Dynamic(bits, symmetric=symmetric, wide=wide))


def _check_quantized(params: Any, bits: Array | int, wide: bool) -> None:
  quantized = [(path, x) for path, x in tree.select_parts(params, lambda path: True)[0]
               if _is_quantized(x)]
  if not quantized:
    raise ValueError("params: no leaf is quantized; call quantize.affine first")
  for path, x in quantized:
    if wide and isinstance(x, BlockSparse):
      raise ValueError(f"{path}: bits={bits}: the input of a BlockSparse may have up to 8; "
                       "quantize inputs before freezing")


def _is_quantized(x: Any) -> bool:
  """Returns whether a leaf holds integers, or acts so."""
  integers = isinstance(x, BlockSparse) and x.scale is not None
  return integers or isinstance(x, FakeQuant | Quantized)


def _seen(fn: Callable[..., Any], params: Any, batches: Iterable[Any],
          bins: int) -> dict[str, Seen]:
  """Returns what went into every quantized leaf's products, by path."""
  plain = _with_inputs(params, lambda path: None)

  @jax.jit
  def look(p: Any, x: Any) -> dict[str, Seen]:
    # Plain weights are not watched: they may take part in anything.
    captured = capture(fn, where=lambda path: False)(p, x)[1]
    return {path: see(_joined(uses), bins) for path, uses in captured.items()}

  each = [look(plain, batch) for batch in batches]
  return jax.tree.map(lambda *xs: jnp.concatenate(xs), *each) if each else {}


def _joined(uses: list[Captured]) -> Array:
  return jnp.concatenate([use.input.ravel() for use in uses])


def _with_inputs(params: Any, grid_at: Callable[[str], Activation | Dynamic | None]) -> Any:
  """Returns the tree with every quantized leaf's input grid set by its path."""
  chosen, rebuild = tree.select_parts(params, lambda path: True)
  return rebuild([dataclasses.replace(x, input=grid_at(path))
                  if _is_quantized(x) else x for path, x in chosen])
