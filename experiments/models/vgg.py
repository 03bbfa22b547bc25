"""VGG for small images, with batch norm."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.layers import ConvNorm
from experiments.models.pooling import max_pool


class VGG(nn.Module):
  """Groups of 3 x 3 convolutions with batch norm, each followed by 2 x 2 max pooling.

  The default is VGG-16 as it is usual for CIFAR-10: one linear layer behind the
  convolutions, 14,724,042 parameters (Simonyan and Zisserman 2015, configuration
  D; a convolution in front of a norm has no bias, which would add 4,224).

  Attributes:
    num_classes: length of the logits.
    groups: channels of every group's convolutions.
    hidden: widths of linear layers before the last one.
    folded: whether batch norms have been folded into biases.
    dtype: of the computation.
  """

  num_classes: int
  groups: tuple[tuple[int, ...], ...] = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
  hidden: tuple[int, ...] = ()
  folded: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    for i, group in enumerate(self.groups):
      for j, features in enumerate(group):
        x = ConvNorm(features, folded=self.folded, dtype=self.dtype,
                     name=f"group{i}_layer{j}")(x, train)
      x = max_pool(x)
    x = x.reshape(x.shape[0], -1)
    for i, features in enumerate(self.hidden):
      x = nn.relu(nn.Dense(features, dtype=self.dtype, name=f"linear{i}")(x))
    return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)
