"""ResNets, for small images and for large ones."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from experiments.models.layers import ConvNorm, standardized

_BLOCKS, _STEMS = ("basic", "bottleneck"), ("small", "large")


class ResNet(nn.Module):
  """Stages of residual blocks (He et al. 2016); the default is ResNet-18 for CIFAR-10.

  It has 11,173,962 parameters with ten classes: a 3 x 3 stem, no pooling in front of
  the stages, projections with norms.

  Attributes:
    num_classes: length of the logits.
    stages: blocks of each stage; all but the first stage start with stride 2.
    block: "basic" (two 3 x 3 convolutions) or "bottleneck" (1 x 1, 3 x 3 and 1 x 1, which
      widens four times; the stride is in the middle, as in torchvision).
    stem: "small" (3 x 3) or "large" (7 x 7 and 3 x 3 max pooling, each with stride 2).
    width: channels of the stem and the first stage; each later stage has twice as many.
    standardize: whether images from -1 to 1 are brought to ImageNet's mean and
      deviation first, as torchvision's weights expect.
    folded: whether batch norms have been folded into biases.
    dtype: of the computation.
  """

  num_classes: int
  stages: tuple[int, ...] = (2, 2, 2, 2)
  block: str = "basic"
  stem: str = "small"
  width: int = 64
  standardize: bool = False
  folded: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    for field, value, known in (("block", self.block, _BLOCKS), ("stem", self.stem, _STEMS)):
      if value not in known:
        raise ValueError(f"{field}={value!r}: must be one of {', '.join(known)}")
    if self.standardize:
      x = standardized(x)
    stem = functools.partial(ConvNorm, self.width, folded=self.folded, dtype=self.dtype,
                             name="stem")
    if self.stem == "large":
      x = stem(kernel=7, stride=2)(x, train)
      x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
    else:
      x = stem()(x, train)
    for i, blocks in enumerate(self.stages):
      for j in range(blocks):
        # The first stage keeps the size that the stem leaves.
        stride = 2 if i > 0 and j == 0 else 1
        x = Block(self.width * 2**i, stride, self.block == "bottleneck", self.folded, self.dtype,
                  name=f"stage{i}_block{j}")(x, train)
    x = x.mean((1, 2))
    return nn.Dense(self.num_classes, dtype=self.dtype, name="head")(x).astype(jnp.float32)


class ResNet50(ResNet):
  """ResNet-50 for ImageNet's image sizes: 25,557,032 parameters with 1000 classes.

  Attributes: see `ResNet`.
  """

  stages: tuple[int, ...] = (3, 4, 6, 3)
  block: str = "bottleneck"
  stem: str = "large"


class Block(nn.Module):
  """Convolutions beside a shortcut, which is a 1 x 1 convolution where shapes change.

  Attributes:
    features: of the convolutions but a bottleneck's last, which has four times as many.
    stride: of the 3 x 3 convolution (a basic block's first), and of the shortcut.
    bottleneck: whether the 3 x 3 convolution is between two of 1 x 1.
    folded: whether batch norms have been folded into biases.
    dtype: of the computation.
  """

  features: int
  stride: int
  bottleneck: bool
  folded: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    layer = functools.partial(ConvNorm, folded=self.folded, dtype=self.dtype)
    n, stride = self.features, self.stride
    if self.bottleneck:
      y = layer(n, kernel=1, name="layer0")(x, train)
      y = layer(n, stride=stride, name="layer1")(y, train)
      y = layer(4 * n, kernel=1, activate=False, name="layer2")(y, train)
    else:
      y = layer(n, stride=stride, name="layer0")(x, train)
      y = layer(n, activate=False, name="layer1")(y, train)
    if x.shape != y.shape:
      x = layer(y.shape[-1], kernel=1, stride=stride, activate=False, name="shortcut")(x, train)
    # ReLU comes after the sum, so that a block can also take away.
    return nn.relu(x + y)
