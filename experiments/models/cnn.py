"""The small CNN of "Evaluation of compression combinations"."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.convolution import conv_general_dilated
from experiments.models.pooling import max_pool


class CNN(nn.Module):
  """One 3 x 3 convolution without padding, 2 x 2 max pooling, one linear layer.

  The paper shows it as a picture only (Figure 1). With 12 channels it has 20,410
  parameters on MNIST, 81,640 bytes, which fits the 78,170 bytes of its file.

  Attributes:
    num_classes: length of the logits.
    features: channels of the convolution.
    dtype: of the computation.
  """

  num_classes: int
  features: int = 12
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    x = nn.relu(nn.Conv(self.features, (3, 3), padding="VALID", dtype=self.dtype, name="conv",
                        conv_general_dilated=conv_general_dilated)(x))
    x = max_pool(x).reshape(x.shape[0], -1)
    return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)
