"""Rules of primitives that only rearrange a weight: it stays compressed, laid out anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives

from compress_jax.leaves import axes
from compress_jax.leaves.base import Array
from compress_jax.leaves.dtypes import at_least_int32
from compress_jax.lift.registry import NoRule, Ref, as_no_rule, bind, register


def _rearranged(equation: Any, x: Ref, change: Callable[[], Any]) -> list[Any]:
  """Returns the reference to the changed leaf, or says why there is none."""
  with as_no_rule(equation.primitive.name, x.path):
    return [dataclasses.replace(x, leaf=change(), moved=True)]


@register(primitives.transpose_p)
def _transpose(interpreter: Any, equation: Any, x: Ref) -> list[Any]:
  order = equation.params["permutation"]
  return _rearranged(equation, x, lambda: axes.transposed(x.leaf, order))


@register(primitives.rev_p)
def _reverse(interpreter: Any, equation: Any, x: Ref) -> list[Any]:
  dims = equation.params["dimensions"]
  return _rearranged(equation, x, lambda: axes.reversed_(x.leaf, dims))


@register(primitives.slice_p)
def _slice(interpreter: Any, equation: Any, x: Ref) -> list[Any]:
  p = equation.params
  steps = p["strides"] or (1,) * x.leaf.ndim
  taken = [slice(*bounds) for bounds in zip(p["start_indices"], p["limit_indices"], steps,
                                            strict=True)]
  return _rearranged(equation, x, lambda: axes.sliced(x.leaf, taken))


@register(primitives.squeeze_p)
def _squeeze(interpreter: Any, equation: Any, x: Ref) -> list[Any]:
  dims = equation.params["dimensions"]
  return _rearranged(equation, x, lambda: axes.squeezed(x.leaf, dims))


def _unstack(interpreter: Any, equation: Any, x: Ref) -> list[Any]:
  """Takes a weight apart along an axis, as iterating over it does."""
  axis, out = equation.params["axis"], []
  for index in range(x.leaf.shape[axis]):
    taken = [slice(0, size, 1) for size in x.leaf.shape]
    taken[axis] = slice(index, index + 1, 1)
    out += _rearranged(equation, x, lambda taken=taken: axes.squeezed(
        axes.sliced(x.leaf, taken), (axis,)))
  return out


def _unstack_primitives() -> list[Any]:
  """Returns the primitive that iterates over an array, of which `jax.extend` has no name.

  Before JAX 0.12 it was made of slices.
  """
  # No array: the first one would start JAX's devices, and `jax.distributed` comes before.
  program = jax.make_jaxpr(list)(jax.ShapeDtypeStruct((1, 1), jnp.float32))
  return [e.primitive for e in program.eqns if e.primitive.name == "unstack"]


for _primitive in _unstack_primitives():
  register(_primitive)(_unstack)


@register(primitives.reshape_p, jax.Array)
@register(primitives.broadcast_in_dim_p, jax.Array)
@register(primitives.dynamic_slice_p, jax.Array)
def _of_array(interpreter: Any, equation: Any, x: Any, *others: Any) -> list[Any]:
  """Lays a watched array out anew, which stays watched; compressed leaves have no such rule."""
  if not isinstance(x, Ref) or any(isinstance(other, Ref) for other in others):
    raise NoRule(equation.primitive.name, "", "only the first operand can be a weight")
  (out,) = bind(equation, [x.dense(), *others])
  return [Ref(out, x.path, x.dtype, moved=True)]


@register(primitives.dynamic_slice_p)
def _dynamic_slice(interpreter: Any, equation: Any, x: Any, *starts: Any) -> list[Any]:
  """Takes one layer of a stack, as a loop does that counts them."""
  if not isinstance(x, Ref) or any(isinstance(start, Ref) for start in starts):
    raise NoRule(equation.primitive.name, "", "only the first operand can be a weight")
  if tuple(equation.params["slice_sizes"]) != (1, *x.leaf.shape[1:]):
    raise NoRule(equation.primitive.name, x.path, "only one whole index of its first axis can be "
                 "taken")
  # Where it starts along the other axes it is clipped to 0, since all of them is taken.
  return _rearranged(equation, x, lambda: axes.taken(x.leaf, starts[0][None], x.leaf.shape[0]))


@register(primitives.gather_p)
def _gather(interpreter: Any, equation: Any, x: Any, indices: Any) -> list[Any]:
  """Looks rows up, as embeddings do: only those are made dense."""
  if not isinstance(x, Ref) or isinstance(indices, Ref):
    raise NoRule(equation.primitive.name, indices.path, "a weight cannot be an index")
  p, shape = equation.params, tuple(x.leaf.shape)
  if not _looks_up_rows(p, shape, indices.ndim):
    raise NoRule(equation.primitive.name, x.path, "only whole rows can be looked up")
  # A byte cannot hold how many rows there are, from 256 on.
  rows = indices[..., 0].astype(at_least_int32(indices.dtype))
  with as_no_rule(equation.primitive.name, x.path):
    found = axes.taken(x.leaf, rows.reshape(-1), shape[0])
  out = Ref(found, x.path, x.dtype).dense().reshape(
      *rows.shape, *equation.outvars[0].aval.shape[rows.ndim:])
  return [_filled(out, rows, shape[0], p)]


def _looks_up_rows(params: Any, shape: tuple[int, ...], ndim: int) -> bool:
  """Tells whether a gather is `weight[rows]`, or `vmap` of a single row's."""
  numbers = params["dimension_numbers"]
  whole_rows = tuple(params["slice_sizes"]) == (1, *shape[1:])
  collapsed, starts = tuple(numbers.collapsed_slice_dims), tuple(numbers.start_index_map)
  by_row = (collapsed, starts) == ((0,), (0,))
  # `vmap` of one keeps the row's axis, which has one element, and may say where columns start:
  # at 0, since all are taken, wherever it points to.
  of_one = (collapsed == () and starts[:1] == (0,) and
            lax.GatherScatterMode.from_any(params["mode"]) == lax.GatherScatterMode.CLIP)
  behind = tuple(range(ndim - 1, ndim - 1 + len(shape) - len(collapsed)))
  return (whole_rows and (by_row or of_one) and tuple(numbers.offset_dims) == behind
          and not numbers.operand_batching_dims)


def _filled(out: Array, rows: Array, count: int, params: Any) -> Array:
  """Puts the fill value where a row is out of range, if the program asks for it."""
  if lax.GatherScatterMode.from_any(params["mode"]) != lax.GatherScatterMode.FILL_OR_DROP:
    return out
  inside = ((rows >= 0) & (rows < count)).reshape(*rows.shape, *(1,) * (out.ndim - rows.ndim))
  fill = params["fill_value"]
  return jnp.where(inside, out, jnp.nan if fill is None else fill)
