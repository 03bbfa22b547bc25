"""SqueezeNet 1.0."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.convolution import conv_general_dilated
from experiments.models.layers import standardized

_Fire = tuple[int, int]


class SqueezeNet(nn.Module):
  """Fire modules: few 1 x 1 filters, then 1 x 1 and 3 x 3 ones side by side.

  With 525 classes it has the 1,004,749 parameters of "Comparative analysis …", Table II;
  with 1000 torchvision's 1,248,424. Convolutions have biases, and there is no norm.
  Source: Iandola et al. 2016, laid out as in torchvision.

  Attributes:
    num_classes: length of the logits.
    stem: channels of the first convolution, 7 x 7 with stride 2.
    groups: (squeeze, expand) channels of the fire modules; every group comes after a max pooling.
    dropout: in front of the last convolution, while training (key "dropout").
    standardize: whether images from -1 to 1 are brought to ImageNet's mean and
      deviation first, as torchvision's weights expect.
    dtype: of the computation.
  """

  num_classes: int
  stem: int = 96
  groups: tuple[tuple[_Fire, ...], ...] = (
      ((16, 64), (16, 64), (32, 128)),
      ((32, 128), (48, 192), (48, 192), (64, 256)),
      ((64, 256),))
  dropout: float = 0.5
  standardize: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    if self.standardize:
      x = standardized(x)
    x = nn.relu(nn.Conv(self.stem, (7, 7), 2, padding="VALID", dtype=self.dtype, name="stem",
                        kernel_init=nn.initializers.he_normal(),
                        conv_general_dilated=conv_general_dilated)(x))
    for i, group in enumerate(self.groups):
      # A window that only half fits counts (PyTorch's ceil_mode).
      x = nn.max_pool(x, (3, 3), (2, 2), [(0, 1 - side % 2) for side in x.shape[1:3]])
      for j, (squeeze, expand) in enumerate(group):
        x = Fire(squeeze, expand, self.dtype, name=f"group{i}_fire{j}")(x)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = nn.relu(nn.Conv(self.num_classes, (1, 1), dtype=self.dtype, name="head",
                        conv_general_dilated=conv_general_dilated)(x))
    return x.mean((1, 2)).astype(jnp.float32)


class Fire(nn.Module):
  """1 x 1 convolution, then a 1 x 1 and a 3 x 3 one whose channels are concatenated.

  Attributes:
    squeeze: channels of the first.
    expand: channels of each of the other two.
    dtype: of the computation.
  """

  squeeze: int
  expand: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    conv = functools.partial(nn.Conv, dtype=self.dtype, kernel_init=nn.initializers.he_normal(),
                             conv_general_dilated=conv_general_dilated)
    x = nn.relu(conv(self.squeeze, (1, 1), name="squeeze")(x))
    one = conv(self.expand, (1, 1), name="expand1")(x)
    three = conv(self.expand, (3, 3), name="expand3")(x)
    return nn.relu(jnp.concatenate([one, three], -1))
