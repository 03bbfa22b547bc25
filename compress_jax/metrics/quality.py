"""The quality metric of the evaluation paper."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from compress_jax import tree
from compress_jax.leaves.base import Array


def quality(sparsity: Array | float, bits: Array | float, delta_accuracy: Array | float,
            reduction: Array | float) -> Array:
  """The quality metric Q of a pruned and quantized model.

  Q = (sparsity + 8 / bits) / 2 * tanh(delta_accuracy) * sigmoid(reduction)

  Args:
    sparsity: fraction of the weights that are zero, 0 to 1.
    bits: of a weight, 1 to 64.
    delta_accuracy: the model's accuracy minus the baseline's, in percentage points.
    reduction: the baseline's size divided by the model's, positive.

  Returns:
    float32, the arguments' broadcast shape; -1 to 1 from 8 bits on.

  Raises:
    ValueError: an argument out of range.

  Source: "Evaluation of compression combinations", equation 5.

  Example:
    >>> round(float(quality(0.9, 8, -2.22, 14.66)), 4)
    -0.9278
  """
  tree.check_number("sparsity", sparsity, 0, 1)
  tree.check_number("bits", bits, 1, 64)
  tree.check_number("delta_accuracy", delta_accuracy, -100, 100)
  tree.check_number("reduction", reduction, 0, float("inf"))
  compression = (jnp.asarray(sparsity, jnp.float32) + 8 / jnp.asarray(bits, jnp.float32)) / 2
  accuracy, factor = (jnp.asarray(x, jnp.float32) for x in (delta_accuracy, reduction))
  return compression * jnp.tanh(accuracy) * jax.nn.sigmoid(factor)
