"""bfloat16 in graphs: computed in float32 and rounded, as runtimes have no products of it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives

_NARROW = np.dtype(jnp.bfloat16)

# What gives no other numbers than it gets: nothing is to be rounded.
_EXACT = {primitives.broadcast_in_dim_p, primitives.concatenate_p, primitives.dynamic_slice_p,
          primitives.gather_p, primitives.max_p, primitives.min_p, primitives.neg_p,
          primitives.pad_p, primitives.reduce_max_p, primitives.reduce_min_p,
          primitives.reshape_p, primitives.rev_p, primitives.select_n_p, primitives.slice_p,
          primitives.squeeze_p, primitives.transpose_p}


def widened(x: Any) -> Any:
  """Returns an array of bfloat16 as float32, any other as it is.

  Args:
    x: array.
  """
  return x.astype(jnp.float32) if _is_narrow(x) else x


def widened_equation(equation: Any) -> Any:
  """Returns an equation with float32 for every bfloat16 in its parameters.

  Args:
    equation: of a jaxpr.
  """
  wide = {name: np.dtype(np.float32) for name, value in equation.params.items()
          if isinstance(value, np.dtype) and value == _NARROW}
  return equation.replace(params=equation.params | wide) if wide else equation


def rounded(equation: Any, outs: list[Any]) -> list[Any]:
  """Returns an equation's outputs as numbers that it has, in float32 where those are bfloat16.

  Args:
    equation: as the program has it.
    outs: its outputs, computed in float32.
  """
  if equation.primitive in _EXACT:
    return outs
  return [y.astype(_NARROW).astype(jnp.float32) if _is_narrow(v.aval) else y
          for v, y in zip(equation.outvars, outs, strict=True)]


def as_declared(jaxpr: Any, outs: list[Any]) -> list[Any]:
  """Returns a program's outputs in the dtypes that it gives.

  Args:
    jaxpr: an open jaxpr.
    outs: its outputs, in float32 for bfloat16.
  """
  return [y.astype(_NARROW) if _is_narrow(v.aval) else y
          for v, y in zip(jaxpr.outvars, outs, strict=True)]


def _is_narrow(x: Any) -> bool:
  return getattr(x, "dtype", None) == _NARROW
