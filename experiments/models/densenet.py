"""DenseNet with the layer order of "Combinatorics with model compression"."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.layers import ConvNorm
from experiments.models.pooling import avg_pool


class DenseNet(nn.Module):
  """Three dense blocks (Huang et al. 2017), each layer conv, batch norm, ReLU.

  The original normalizes before the convolution; "Combinatorics with model
  compression", section 3.6, changed the order so that batch norms fold.

  Attributes:
    num_classes: length of the logits.
    depth: 3 n + 4, with n layers in each block.
    growth: channels that each layer adds.
    stem: channels of the first convolution.
    folded: whether batch norms have been folded into biases.
    dtype: of the computation.
  """

  num_classes: int
  depth: int = 40
  growth: int = 12
  stem: int = 16
  folded: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    if self.depth < 7 or (self.depth - 4) % 3:
      raise ValueError(f"depth={self.depth}: must be 7, 10, 13, … (3 n + 4)")
    layer = functools.partial(ConvNorm, folded=self.folded, dtype=self.dtype)
    x = layer(self.stem, name="stem")(x, train)
    for block in range(3):
      # Beside the blocks there are the stem, two transitions and the head: 4 layers.
      for i in range((self.depth - 4) // 3):
        new = layer(self.growth, name=f"block{block}_layer{i}")(x, train)
        x = jnp.concatenate([x, new], -1)
      # No transition behind the last block.
      if block < 2:
        x = layer(x.shape[-1], kernel=1, name=f"transition{block}")(x, train)
        x = avg_pool(x)
    x = x.mean((1, 2))
    return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)
