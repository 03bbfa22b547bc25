"""AlexNet, without its split over two devices."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.convolution import conv_general_dilated

# (channels, kernel, stride, whether pooling follows) of each convolution.
_CONVOLUTIONS = ((96, 11, 4, True), (256, 5, 1, True), (384, 3, 1, False), (384, 3, 1, False),
                 (256, 3, 1, True))


class AlexNet(nn.Module):
  """Five convolutions, three linear layers; images are resized to `side` first.

  58,322,314 parameters at 227 pixels and ten classes, the 58 M of "Evaluation of
  compression combinations". Source: Krizhevsky, Sutskever and Hinton 2012; no
  local response normalization.

  Attributes:
    num_classes: length of the logits.
    side: pixels that images are resized to.
    width: of the two hidden linear layers.
    dropout: before each of them, while training (key "dropout").
    dtype: of the computation.
  """

  num_classes: int
  side: int = 227
  width: int = 4096
  dropout: float = 0.5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = jax.image.resize(x, (x.shape[0], self.side, self.side, x.shape[3]), "bilinear")
    for i, (features, side, stride, pool) in enumerate(_CONVOLUTIONS):
      x = nn.Conv(features, (side, side), stride, padding="VALID" if i == 0 else "SAME",
                  dtype=self.dtype, name=f"conv{i}",
                  conv_general_dilated=conv_general_dilated)(x)
      x = nn.relu(x)
      if pool:
        x = nn.max_pool(x, (3, 3), (2, 2))
    x = x.reshape(x.shape[0], -1)
    for i in range(2):
      x = nn.Dropout(self.dropout, deterministic=not train)(x)
      x = nn.relu(nn.Dense(self.width, dtype=self.dtype, name=f"linear{i}")(x))
    return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)
