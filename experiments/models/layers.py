"""Layers that the zoo's models share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.conv import conv_general_dilated


class ConvNorm(nn.Module):
  """Convolution, batch norm, ReLU, in the order that folds.

  Attributes:
    features: output channels.
    kernel: side of the kernel.
    folded: whether the batch norm has been folded into a bias (`cj.fold`).
    dtype: of the computation; parameters stay float32.
  """

  features: int
  kernel: int = 3
  folded: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = nn.Conv(self.features, (self.kernel, self.kernel), use_bias=self.folded, dtype=self.dtype,
                kernel_init=nn.initializers.he_normal(), name="conv",
                conv_general_dilated=conv_general_dilated)(x)
    if not self.folded:
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5,
                       dtype=self.dtype, name="norm")(x)
    return nn.relu(x)
