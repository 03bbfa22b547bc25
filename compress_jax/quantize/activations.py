"""Integer grids for the inputs of layers, from data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from compress_jax import tree
from compress_jax.leaves import Activation, FakeQuant, Quantized, grid
from compress_jax.leaves.base import Array
from compress_jax.lift import Captured, capture


@dataclasses.dataclass(frozen=True)
class Range:
  """The smallest and largest value seen at one place.

  Attributes:
    low: float32 scalar.
    high: float32 scalar.
  """

  low: Array
  high: Array


jax.tree_util.register_dataclass(Range)


def calibrate(fn: Callable[..., Any], params: Any, batches: Iterable[Any], *,
              bits: Array | int = 8, symmetric: bool = False) -> Any:
  """Gives every quantized weight a grid for its layer's input, from data.

  Args:
    fn: the model, called as `fn(params, batch)`.
    params: a tree with `FakeQuant` or `Quantized` leaves.
    batches: inputs of the model, all of one shape (one compilation).
    bits: 2 to 8, of the activations; may be traced.
    symmetric: whether the grids have 0.0 in the middle; if not, each spans
      exactly the range seen (extended to hold 0.0).

  Returns:
    The tree with `input` set on every quantized leaf; `lift(fn)` then computes
    with integers on both sides.

  Raises:
    ValueError: bits out of range, no batch, no quantized leaf, or one that the
      model never multiplies by.

  Source: static post-training quantization, per-tensor activations by min-max
  (Jacob et al. 2018, section 3).

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.quantize.affine({"w": jnp.eye(2)}, bits=8)
    >>> apply = lambda params, x: x @ params["w"]
    >>> params = cj.quantize.calibrate(apply, params, [jnp.array([[0.0, 2.55]])])
    >>> round(float(params["w"].input.scale), 6)
    0.01
  """
  tree.check_number("bits", bits, 2, 8)
  _check_weights(params)
  ranges = _input_ranges(fn, params, batches)
  if not ranges:
    raise ValueError("batches: calibration needs at least one")
  grids = {path: Activation(*grid.affine(r.low, r.high, bits, symmetric),
                            jnp.asarray(bits, jnp.int32)) for path, r in ranges.items()}
  return _with_inputs(params, lambda path: _grid_at(path, grids))


def _check_weights(params: Any) -> None:
  """Raises a ValueError unless there are quantized leaves, of at most 8 bits."""
  quantized = [(path, x) for path, x in tree.select_parts(params, lambda path: True)[0]
               if isinstance(x, FakeQuant | Quantized)]
  if not quantized:
    raise ValueError("params: no leaf is quantized; call quantize.affine first")
  for path, x in quantized:
    known = tree.concrete(x.bits)
    if known is not None and known.max() > 8:
      raise ValueError(f"{path}: bits={known}: may be up to 8 where inputs are quantized too")


def _grid_at(path: str, grids: dict[str, Activation]) -> Activation:
  if path not in grids:
    raise ValueError(f"{path}: the model never multiplies by this quantized leaf; "
                     f"it may be one of: {', '.join(grids)}")
  return grids[path]


def _input_ranges(fn: Callable[..., Any], params: Any, batches: Iterable[Any]) -> dict[str, Range]:
  plain = _with_inputs(params, lambda path: None)
  # Plain weights are not watched: they may take part in anything.
  seen = jax.jit(lambda p, x: _ranges(capture(fn, where=lambda path: False)(p, x)[1]))
  total: dict[str, Range] = {}
  for batch in batches:
    for path, r in seen(plain, batch).items():
      old = total.get(path, r)
      total[path] = Range(jnp.minimum(old.low, r.low), jnp.maximum(old.high, r.high))
  return total


def _with_inputs(params: Any, grid_at: Callable[[str], Activation | None]) -> Any:
  """Returns the tree with every quantized leaf's input grid set by its path."""
  chosen, rebuild = tree.select_parts(params, lambda path: True)
  return rebuild([dataclasses.replace(x, input=grid_at(path))
                  if isinstance(x, FakeQuant | Quantized) else x for path, x in chosen])


def _ranges(captured: dict[str, list[Captured]]) -> dict[str, Range]:
  return {path: Range(jnp.stack([c.input.min() for c in uses]).min().astype(jnp.float32),
                      jnp.stack([c.input.max() for c in uses]).max().astype(jnp.float32))
          for path, uses in captured.items()}
