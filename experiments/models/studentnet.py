"""StudentNet, of "Comparative analysis of distillation, quantization and pruning"."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.layers import ConvNorm
from experiments.models.pooling import max_pool


class StudentNet(nn.Module):
  """Four convolutions with biases and batch norms, and global average pooling.

  The paper (Table II) gives 281,613 parameters with 525 classes, and no layers. These
  are ours: plain ones that have exactly so many.

  Attributes:
    num_classes: length of the logits.
    channels: of the convolutions: 7 x 7 with stride 2, then 3 x 3, each after 2 x 2 max pooling.
    folded: whether batch norms have been folded into biases.
    dtype: of the computation.
  """

  num_classes: int
  channels: tuple[int, ...] = (32, 80, 112, 112)
  folded: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    layer = functools.partial(ConvNorm, bias=True, folded=self.folded, dtype=self.dtype)
    first, *others = self.channels
    x = layer(first, kernel=7, stride=2, name="layer0")(x, train)
    for i, features in enumerate(others, start=1):
      x = layer(features, name=f"layer{i}")(max_pool(x), train)
    x = x.mean((1, 2))
    return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)
