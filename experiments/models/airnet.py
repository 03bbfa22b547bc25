"""The net of airbench94, which reaches 94 % on CIFAR-10 in eight epochs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.models.convolution import conv_general_dilated
from experiments.models.pooling import max_pool
from experiments.training.augment import normalize

# PyTorch's default: what is not Dirac starts so in the original.
_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class AirNet(nn.Module):
  """A frozen whitening layer, three blocks of two convolutions, global max pooling, a head.

  1,971,640 parameters with ten classes of 32 x 32 RGB images, of which the whitening
  layer's 288 weights are computed from training images by `fitted` and never train.

  As in the original but for these: the whitening layer's bias trains in all epochs (a variant
  by the author without freezing is as accurate); the head has no scale beside its weights,
  which start as small as the scale would make them (a learning rate of 1 is one of the
  original's times 1 / width²); images are scaled by one number for all channels; norms add
  1e-5 to variances, not 1e-12; GELU is its tanh approximation; the whitening layer's bias
  starts at 0. Nothing here augments test images.

  Attributes:
    num_classes: length of the logits.
    widths: channels of the blocks.
    folded: whether batch norms have been folded into biases.
    dtype: of the computation.

  Source: Jordan 2024 (arXiv 2404.00498), section 3; widths and initial values from
  airbench94_muon (https://github.com/KellerJordan/cifar10-airbench).
  """

  num_classes: int
  widths: tuple[int, ...] = (64, 256, 256)
  folded: bool = False
  dtype: Any = jnp.float32

  @property
  def frozen(self) -> str:
    """Pattern of the parameters that never train."""
    return "^whiten/kernel"

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    # Each direction of the patches, and its opposite: GELU would cut one of the two off.
    whitened = 2 * 2 * 2 * x.shape[-1]
    x = nn.gelu(nn.Conv(whitened, (2, 2), padding="VALID", dtype=self.dtype, name="whiten",
                        conv_general_dilated=conv_general_dilated)(x))
    for i, width in enumerate(self.widths):
      x = _Layer(width, True, self.folded, self.dtype, name=f"block{i}_layer0")(x, train)
      x = _Layer(width, False, self.folded, self.dtype, name=f"block{i}_layer1")(x, train)
    x = x.max((1, 2))
    small = nn.initializers.normal(1 / x.shape[-1])
    return nn.Dense(self.num_classes, use_bias=False, dtype=self.dtype, kernel_init=small,
                    name="head")(x).astype(jnp.float32)

  def fitted(self, variables: Any, images: Any) -> Any:
    """Returns variables whose whitening layer whitens patches of images.

    Args:
      variables: freshly initialized.
      images: uint8, (count, height, width, channels); of the training split.

    Returns:
      The variables with other weights of the layer `whiten`.
    """
    kernel = jnp.asarray(whitening(np.asarray(normalize(jnp.asarray(images)))))
    params = variables["params"]
    whiten = {**params["whiten"], "kernel": kernel}
    return {**variables, "params": {**params, "whiten": whiten}}


class _Layer(nn.Module):
  """Convolution, maybe 2 x 2 max pooling, batch norm without a scale, GELU.

  The norm follows the pooling; as it only scales by positive numbers and shifts, it may be
  folded into the convolution in front of it.

  Attributes:
    features: output channels.
    pools: whether there is pooling.
    folded: whether the batch norm has been folded into a bias.
    dtype: of the computation.
  """

  features: int
  pools: bool
  folded: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    x = nn.Conv(self.features, (3, 3), padding=1, use_bias=self.folded, dtype=self.dtype,
                kernel_init=dirac, name="conv", conv_general_dilated=conv_general_dilated)(x)
    if self.pools:
      x = max_pool(x)
    if not self.folded:
      # So few steps: statistics must follow fast.
      x = nn.BatchNorm(use_running_average=not train, momentum=0.6, epsilon=1e-5,
                       use_scale=False, dtype=self.dtype, name="norm")(x)
    return nn.gelu(x)


def dirac(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
  """Returns initial filters of which the first ones pass a channel on as it is.

  Args:
    key: a PRNG key, of the other filters.
    shape: (height, width, inputs, outputs).
    dtype: of the filters.

  Returns:
    An array of that shape.

  Source: Jordan 2024 (arXiv 2404.00498), section 3.3.

  Example:
    >>> dirac(jax.random.key(0), (3, 3, 1, 2))[:, :, 0, 0].tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
  """
  height, width, inputs, outputs = shape
  filters = _UNIFORM(key, shape, dtype)
  passed = jnp.eye(inputs, outputs, dtype=dtype)[:, :min(inputs, outputs)]
  filters = filters.at[..., :min(inputs, outputs)].set(0)
  return filters.at[height // 2, width // 2, :, :min(inputs, outputs)].set(passed)


def whitening(images: np.ndarray, epsilon: float = 5e-4) -> np.ndarray:
  """Returns the weights of a 2 x 2 convolution whose outputs have no correlation and equal size.

  Args:
    images: float, (count, height, width, channels), with values around 0.
    epsilon: is added to every direction's variance, relative to the pixels' own.

  Returns:
    float32, (2, 2, channels, 8 * channels): the eigenvectors of the patches' second moments,
    over the root of the eigenvalues, and the same times -1.

  Source: Jordan 2024 (arXiv 2404.00498), section 3.2.

  Example:
    >>> images = np.random.default_rng(0).normal(size=(64, 8, 8, 1))
    >>> whitening(images).shape
    (2, 2, 1, 8)
  """
  views = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))
  # (…, channels, rows, columns) to the order of a kernel's inputs.
  channels = images.shape[-1]
  patches = views.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 4 * channels).astype(np.float64)
  moments = patches.T @ patches / len(patches)
  values, vectors = np.linalg.eigh(moments)
  scaled = vectors / np.sqrt(values + epsilon * moments.diagonal().mean())
  both = np.concatenate([scaled, -scaled], axis=1)
  return both.reshape(2, 2, channels, 8 * channels).astype(np.float32)
