"""Integer grids for the inputs of layers: from data, or from each input itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress_jax import checks, tree
from compress_jax.leaves import Dynamic, StaticGrid, grid, is_leaf
from compress_jax.leaves.base import Array
from compress_jax.lift.interpreter import Interpreter
from compress_jax.lift.registry import Captured
from compress_jax.lift.tracing import interpret
from compress_jax.quantize.observers import MinMax, Seen, see
from compress_jax.quantize.weights import checked_bits

Observer = Callable[[Seen, Array | int, bool], tuple[Array, Array]]


def calibrate(fn: Callable[..., Any], params: Any, batches: Iterable[Any], *,
              bits: Array | int = 8, symmetric: bool = False, observer: Observer | None = None,
              learned: bool = False, densify: bool = False) -> Any:
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
    learned: whether the grids' steps train from there (LSQ, which itself starts them at
      2 mean|x| / sqrt(largest integer)).
    densify: whether what `lift` has no rule for runs on dense arrays; see there.

  Returns:
    The tree with `input` set on every quantized leaf; `lift(fn)` then computes
    with integers on both sides. A stack of layers that the model runs by `scan` gets a grid for
    each layer; one that it uses in another way too, one grid for all.

  Raises:
    ValueError: bits out of range, no batch or an empty one, two leaves of one path, no quantized
      leaf, or one that the
      model never multiplies by (as far as `capture` sees: not inside a `while`, nor in
      one branch of a `cond` only), or whose inputs are not finite.

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
  bits, may_exceed = checked_bits(bits)
  tree.by_path(params)  # raises where two leaves have one path: what one sees is not the other's
  # Refused now, and not after all batches: a leaf that takes no such grid.
  dynamic(params, bits=bits, symmetric=symmetric)
  observer = observer or MinMax()
  if isinstance(observer, type):
    raise ValueError(f"observer={observer.__name__}: a class; must be one of its objects: "
                     f"{observer.__name__}()")
  seen = _seen(fn, params, batches, getattr(observer, "bins", 0), densify)
  def grid_at(path: str) -> StaticGrid:
    if path not in seen:
      raise ValueError(f"{path}: no product with this quantized leaf was seen; the model must "
                       "multiply by it, and not only inside a `while` or in one branch of a `cond` "
                       f"(seen: {', '.join(seen) or 'none'}); where=cj.used_in_products(fn, "
                       "params, x) quantizes only what products use")
    ends = checks.concrete(jnp.stack([seen[path].low, seen[path].high]))
    if ends is not None and not np.isfinite(ends).all():
      raise ValueError(f"{path}: batches put NaN or infinity into its layer; inputs must be finite")
    low, high = _observed(lambda one: observer(one, bits, symmetric), seen[path])
    scale, zero_point = grid.affine(low, high, bits, symmetric)
    # Bits in a buffer of their own: a program can be donated each only once.
    return StaticGrid(scale, zero_point, jnp.array(bits), may_exceed_8_bits=may_exceed,
                      learned=learned)

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
  bits, may_exceed = checked_bits(bits)
  # Bits in buffers of their own, as in `calibrate`.
  return _with_inputs(params, lambda path: Dynamic(jnp.array(bits), symmetric=symmetric,
                                                   may_exceed_8_bits=may_exceed))


def _seen(fn: Callable[..., Any], params: Any, batches: Iterable[Any],
          bins: int, densify: bool) -> dict[str, Seen]:
  """Returns what went into every quantized leaf's products, by path."""
  arrays, rebuild = tree.arrays_of(_with_inputs(params, lambda path: None))

  @jax.jit
  def look(arrays: list[Any], x: Any) -> dict[str, Seen]:
    # Plain weights are not watched: they may take part in anything.
    interpreter = Interpreter(densify, watching=True)
    interpret(interpreter, fn, (rebuild(arrays), x), {})
    return {path: _see(uses, bins, path not in interpreter.unseen)
            for path, uses in interpreter.records.items()}

  each = []
  for batch in batches:
    if any(jnp.shape(x)[:1] == (0,) for x in jax.tree.leaves(batch)):
      raise ValueError("batches: one is empty; must each have an example or more")
    each.append(look(arrays, batch))
  if not each:
    raise ValueError("batches: calibration needs at least one")
  return jax.tree.map(lambda *xs: jnp.concatenate(xs), *each)


def _see(uses: list[Captured], bins: int, complete: bool) -> Seen:
  """Returns what there is to see of one batch.

  Args:
    uses: of one weight, in one batch.
    bins: of the histogram.
    complete: whether these are all uses; if not, another one may not be by slices.

  Returns:
    `Seen` whose arrays have, behind the axis of batches, the axes of the weight's slices, where
    all uses are by slices.
  """
  fewest = min(use.slices for use in uses) if complete else 0
  slices = uses[0].input.shape[:fewest]
  rows = math.prod(slices)
  inputs = jnp.concatenate([use.input.reshape(rows, -1) for use in uses], axis=1)
  seen = jax.vmap(lambda x: see(x, bins), out_axes=1)(inputs)
  return jax.tree.map(lambda x: x.reshape(1, *slices, *x.shape[2:]), seen)


def _observed(observe: Callable[[Seen], tuple[Array, Array]], seen: Seen) -> tuple[Array, Array]:
  """Returns an observer's range; of a stack one range for each slice.

  Args:
    observe: from what was seen at one place to (low, high).
    seen: as `_see` returns it, of all batches.
  """
  slices = seen.low.shape[1:]
  # An observer is anyone's function: it need not work under `jax.vmap`.
  each = [observe(jax.tree.map(lambda x, at=at: x[:, *at], seen)) for at in np.ndindex(*slices)]
  low, high = (jnp.stack(ends).reshape(slices) for ends in zip(*each, strict=True))
  return low, high


def _with_inputs(params: Any, grid_at: Callable[[str], StaticGrid | Dynamic | None]) -> Any:
  """Returns the tree with the input grid of every leaf that takes one set by its path."""
  parts, rebuild = tree.select_parts(params, tree.everything)
  if not any(_takes_grid(x) for _, x in parts):
    raise ValueError("params: no leaf is quantized; call quantize.affine first")
  changed = []
  for path, x in parts:
    if _takes_grid(x):
      with checks.at(path):
        x = x.with_input_grid(grid_at(path))
    changed.append(x)
  return rebuild(changed)


def _takes_grid(x: Any) -> bool:
  return is_leaf(x) and x.takes_input_grid
