"""The quality metric of the evaluation paper."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from compress_jax import checks
from compress_jax.leaves.base import Array


def quality(sparsity: Array | float, bits: Array | float, delta_accuracy: Array | float,
            gzip_reduction: Array | float) -> Array:
  """Returns the quality metric Q of a pruned and quantized model.

  Q = (sparsity + 8 / bits) / 2 * tanh(delta_accuracy) * sigmoid(gzip_reduction)

  Args:
    sparsity: fraction of the weights that are zero, 0 to 1.
    bits: of a weight, 1 to 64.
    delta_accuracy: the model's accuracy minus the baseline's, in percentage points.
    gzip_reduction: the baseline's size divided by the model's, both through gzip, positive; the
      paper's reduction. (`reduction` is the part that is saved, elsewhere.)

  Returns:
    float32, of the arguments' broadcast shape; from -1 to 1 for 8 bits and more.

  Raises:
    ValueError: an argument out of range.

  Source: "Evaluation of compression combinations", equation 5.

  Example:
    >>> round(float(quality(0.9, 8, -2.22, 14.66)), 4)
    -0.9278
  """
  checks.number("sparsity", sparsity, 0, 1)
  checks.number("bits", bits, 1, 64)
  checks.number("delta_accuracy", delta_accuracy, -100, 100)
  checks.number("gzip_reduction", gzip_reduction, 0, float("inf"))
  sparsity, bits = jnp.asarray(sparsity, jnp.float32), jnp.asarray(bits, jnp.float32)
  delta_accuracy = jnp.asarray(delta_accuracy, jnp.float32)
  gzip_reduction = jnp.asarray(gzip_reduction, jnp.float32)
  compression = (sparsity + 8 / bits) / 2
  return compression * jnp.tanh(delta_accuracy) * jax.nn.sigmoid(gzip_reduction)
