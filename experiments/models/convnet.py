"""The student of "Combinatorics with model compression"."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.layers import ConvNorm
from experiments.models.pooling import max_pool


class ConvNet(nn.Module):
  """Three convolutions with batch norm, three linear layers, ReLU throughout.

  The paper does not give the widths; only its last layer has a bias (section 3.5).

  Attributes:
    num_classes: length of the logits.
    widths: channels of the convolutions, each followed by 2 x 2 max pooling.
    hidden: widths of the first two linear layers.
    folded: whether batch norms have been folded into biases.
    dtype: of the computation.
  """

  num_classes: int
  widths: tuple[int, ...] = (16, 32, 64)
  hidden: tuple[int, ...] = (128, 64)
  folded: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    for i, features in enumerate(self.widths):
      x = ConvNorm(features, folded=self.folded, dtype=self.dtype, name=f"layer{i}")(x, train)
      x = max_pool(x)
    x = x.reshape(x.shape[0], -1)
    for i, features in enumerate(self.hidden):
      x = nn.relu(nn.Dense(features, use_bias=False, dtype=self.dtype, name=f"linear{i}")(x))
    return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)
