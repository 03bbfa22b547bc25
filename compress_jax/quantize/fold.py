"""Batch-norm folding: a normalized layer becomes one with a bias."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from compress_jax import checks
from compress_jax.leaves.either import scaled


def batch_norm(params: Mapping[str, Any], stats: Mapping[str, Any], *, layer: str = "conv",
               norm: str = "norm", epsilon: float = 1e-5) -> dict[str, Any]:
  """Multiplies every batch norm that follows a layer into its weights.

  kernel' = kernel * gamma / sqrt(var + epsilon)
  bias'   = beta + (bias - mean) * gamma / sqrt(var + epsilon)

  Args:
    params: nested dicts, lists and tuples. Wherever a dict has both keys `layer` and `norm`,
      the first (kernel, maybe bias) is what the second (scale, bias) normalizes.
      A norm may have no scale, or no bias.
    stats: the same nested: `norm` holds mean and var.
    layer: the layer's key.
    norm: the batch norm's key.
    epsilon: the batch norm's.

  Returns:
    The nested dict without the `norm` entries; folded layers have a bias. Masks
    and factors stay what they are; kernels keep their dtype.

  Raises:
    ValueError: a kernel is already quantized (fold first), statistics are missing or of another
      number of channels, or there is nothing to fold.

  Source: Jacob et al. 2018, section 3.2.

  Example:
    >>> import jax.numpy as jnp
    >>> one = jnp.ones(1)
    >>> params = {"conv": {"kernel": one[None]}, "norm": {"scale": 2 * one, "bias": one}}
    >>> folded = batch_norm(params, {"norm": {"mean": one, "var": one}}, epsilon=0.0)
    >>> folded["conv"]["kernel"].tolist(), folded["conv"]["bias"].tolist()
    ([[2.0]], [-1.0])
  """
  folding = _Folding(layer, norm, epsilon)
  folded = folding.fold(params, stats, "")
  if not folding.folded:
    raise ValueError(f"layer={layer!r}, norm={norm!r}: no dict of the tree has both keys")
  return folded


class _Folding:
  """Folds the layers of a tree, and notes where it did.

  Attributes:
    folded: paths of the layers.
  """

  def __init__(self, layer: str, norm: str, epsilon: float):
    self.layer, self.norm, self.epsilon = layer, norm, epsilon
    self.folded: list[str] = []

  def fold(self, params: Any, stats: Any, path: str) -> Any:
    """Returns a part of the tree with its layers folded; `stats` is that of the same place."""
    if isinstance(params, list | tuple):
      inside = [self.fold(value, _at(stats, i), f"{path}{i}/") for i, value in enumerate(params)]
      # A named tuple takes its fields one by one.
      return type(params)(*inside) if hasattr(params, "_fields") else type(params)(inside)
    if not isinstance(params, Mapping):
      return params
    folds = self.layer in params and self.norm in params
    out = {}
    for key, value in params.items():
      if folds and key == self.norm:
        continue  # it goes into the layer
      if folds and key == self.layer:
        self.folded.append(f"{path}{key}")
        out[key] = self._layer(value, params[self.norm], _at(stats, self.norm), f"{path}{key}")
      else:
        out[key] = self.fold(value, _at(stats, key), f"{path}{key}/")
    return out

  def _layer(self, layer: Any, norm: Any, stats: Any, path: str) -> dict[str, Any]:
    """Returns a layer with its norm multiplied in."""
    mean, var = _at(stats, "mean"), _at(stats, "var")
    if mean is None or var is None:
      raise ValueError(f"{path}: stats must have the mean and var of {self.norm!r}")
    if not isinstance(layer, Mapping) or "kernel" not in layer:
      raise ValueError(f"{path}: has no 'kernel'; must be a dict that has one")
    kernel, outputs = layer["kernel"], layer["kernel"].shape[-1:]
    shapes = jnp.shape(mean), jnp.shape(var)
    if shapes != (outputs, outputs):
      raise ValueError(f"{path}: mean {shapes[0]} and var {shapes[1]} of {self.norm!r}; must be "
                       f"{outputs}, as the kernel's outputs")
    checks.number(f"{path}: var of {self.norm!r}", var, 0, math.inf)
    factor = norm.get("scale", 1.0) * jax.lax.rsqrt(var + self.epsilon)
    bias = norm.get("bias", 0.0) + (layer.get("bias", 0.0) - mean) * factor
    with checks.at(f"{path}/kernel"):
      folded = scaled(kernel, factor)
    return {**layer, "kernel": folded, "bias": bias}


def _at(part: Any, key: str | int) -> Any:
  """Returns what a nested dict or list has at a key, or None."""
  if isinstance(part, Mapping):
    # Flax's dicts number what others have in lists.
    return part.get(key, part.get(str(key)))
  if isinstance(part, list | tuple) and isinstance(key, int) and key < len(part):
    return part[key]
  return None
