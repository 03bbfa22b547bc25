"""Values with another computation's gradient, and rounding that no compiler undoes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from compress_jax.leaves.base import Array


@jax.custom_jvp
def with_gradient_of(value: Array, surrogate: Array) -> Array:
  """Returns `value`; its gradient is the surrogate's.

  Under jit the surrogate's own value is never computed.

  Args:
    value: the result.
    surrogate: a differentiable computation of (nearly) the same number.

  Returns:
    `value`.

  Example:
    >>> import jax
    >>> jax.grad(lambda x: with_gradient_of(jax.numpy.round(x), 3 * x))(1.2)
    Array(3., dtype=float32, weak_type=True)
  """
  return value


@with_gradient_of.defjvp
def _with_gradient_of_jvp(primals, tangents):
  return primals[0], tangents[1].astype(primals[0].dtype)


@jax.custom_jvp
def rounded(x: Array) -> Array:
  """Rounds float32 to 22 bits, so that both leaves give the same bits in any program.

  Args:
    x: float32 array; of float64 51 bits are kept.

  Returns:
    An array of its dtype; gradients pass unchanged.

  Without it a compiler may fuse a rescale with the bias that follows into one rounding for one
  leaf and not for the other; XLA's CPU backend drops an optimization barrier before it does.
  """
  if x.dtype == jnp.float64:
    return lax.reduce_precision(x, exponent_bits=11, mantissa_bits=51)
  return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=22)


rounded.defjvp(lambda primals, tangents: (rounded(*primals), tangents[0]))
