"""Layers that the zoo's models share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.convolution import conv_general_dilated

# Of red, green and blue from 0 to 1, over ImageNet: torchvision's weights expect images so.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def standardized(x: jax.Array) -> jax.Array:
  """Returns images from -1 to 1 with ImageNet's mean 0 and deviation 1.

  It cannot be folded into a first convolution that pads: zeros are the mean there.

  Args:
    x: images from -1 to 1, (…, 3), red, green and blue.

  Example:
    >>> standardized(2 * jnp.array([[[_MEAN]]]) - 1).round(3).tolist()
    [[[[0.0, 0.0, 0.0]]]]
  """
  mean, deviation = jnp.asarray(_MEAN, x.dtype), jnp.asarray(_DEVIATION, x.dtype)
  return ((x + 1) / 2 - mean) / deviation


class ConvNorm(nn.Module):
  """Convolution, batch norm, ReLU, in the order that folds.

  Half the kernel is padded on every side, as PyTorch does; with stride 1 that is "SAME".

  Attributes:
    features: output channels.
    kernel: side of the kernel, odd.
    stride: of the convolution.
    bias: whether the convolution has one in front of the norm.
    activate: whether ReLU follows.
    folded: whether the batch norm has been folded into a bias (`cj.fold`).
    dtype: of the computation; parameters stay float32.
  """

  features: int
  kernel: int = 3
  stride: int = 1
  bias: bool = False
  activate: bool = True
  folded: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    # He's variance: half of what follows is cut off by ReLU.
    x = nn.Conv(self.features, (self.kernel, self.kernel), self.stride, padding=self.kernel // 2,
                use_bias=self.bias or self.folded, dtype=self.dtype,
                kernel_init=nn.initializers.he_normal(), name="conv",
                conv_general_dilated=conv_general_dilated)(x)
    if not self.folded:
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5,
                       dtype=self.dtype, name="norm")(x)
    return nn.relu(x) if self.activate else x
