"""Multiply-adds and bit-operations, layer by layer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compress_jax import tree
from compress_jax.leaves import UnsupportedError, dense_of, input_grid_of
from compress_jax.leaves.base import bits_of
from compress_jax.leaves.either import weight_bits_of
from compress_jax.lift.tracing import records


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operations:
  """What the products with one weight take.

  Attributes:
    multiply_adds: of all its elements.
    nonzero_multiply_adds: of the weight's non-zero elements, as if every element
      were used equally often.
    bit_operations: non-zero multiply-adds x bits of a weight x bits of an input.
  """

  multiply_adds: int
  nonzero_multiply_adds: int
  bit_operations: int


def operations(fn: Callable[..., Any], params: Any, *args: Any,
               densify: bool = False) -> dict[str, Operations]:
  """Counts the products with every weight, as `lift` runs them; nothing is computed.

  Args:
    fn: the model, called as `fn(params, *args)`.
    params: a parameter tree with or without leaves, concrete. Factorized leaves
      count by their factors.
    *args: as for `fn`: arrays, or a `jax.ShapeDtypeStruct` for each.
    densify: whether what `lift` has no rule for runs on dense arrays; see there.

  Returns:
    {path: Operations} of every weight that is multiplied by, biases not. Not seen are products
    inside a `while` or in one branch of a `cond`, `ragged_dot`, and those of weights that the
    model computes from several others, a merged `w + a @ b`, say. Zeros that pad an
    input's borders count as elements, those between its pixels (transposed convolutions) do not.

  Raises:
    NoRule: see `lift`.

  Source: bit-operations as in van Baalen et al. 2020, "Bayesian bits".

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.prune.magnitude({"w": jnp.arange(12.0).reshape(3, 4)}, 0.5)
    >>> operations(lambda p, x: x @ p["w"], params, jnp.ones((2, 3)))["w"]
    Operations(multiply_adds=24, nonzero_multiply_adds=12, bit_operations=12288)
  """
  seen = records(fn, params, *args, densify=densify)
  parts, _ = tree.select_parts(params, tree.everything)
  weights = tree.by_path(params) | dict(parts)
  found = {}
  for path, uses in seen.items():
    # Uses without terms are those of a whole whose parts are counted.
    if not any(use.terms for use in uses):
      continue
    if path not in weights:
      raise UnsupportedError(f"{path}: a rule multiplies by it as by a part of its leaf; the "
                             "leaf's `parts` must name it")
    found[path] = _of(weights[path], uses)
  return found


def total(layers: Mapping[str, Operations]) -> Operations:
  """Returns the sums over all layers.

  Args:
    layers: from `operations`.

  Returns:
    The sums.

  Example:
    >>> one = Operations(multiply_adds=2, nonzero_multiply_adds=1, bit_operations=64)
    >>> total({"a": one, "b": one}).multiply_adds
    4
  """
  every = layers.values()
  return Operations(multiply_adds=sum(x.multiply_adds for x in every),
                    nonzero_multiply_adds=sum(x.nonzero_multiply_adds for x in every),
                    bit_operations=sum(x.bit_operations for x in every))


def _of(weight: Any, uses: Any) -> Operations:
  values = np.asarray(dense_of(weight))
  density = np.count_nonzero(values) / max(values.size, 1)
  each = [round(math.prod(use.output.shape) * use.terms) for use in uses]
  nonzero = [round(n * density) for n in each]
  bits = 0
  for n, use in zip(nonzero, uses, strict=True):
    bits += n * weight_bits_of(weight) * _input_bits(weight, use.input.dtype)
  return Operations(multiply_adds=sum(each), nonzero_multiply_adds=sum(nonzero),
                    bit_operations=bits)


def _input_bits(weight: Any, dtype: Any) -> int:
  grid = input_grid_of(weight)
  # A stack of layers may have a grid for each.
  return bits_of(dtype) if grid is None else int(np.max(grid.bits))
