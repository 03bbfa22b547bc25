"""Batch-norm folding: a normalised layer becomes one with a bias."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from compress_jax import checks
from compress_jax.leaves.either import scaled


def batch_norm(params: Mapping[str, Any], stats: Mapping[str, Any], *, layer: str = "conv",
               norm: str = "norm", epsilon: float = 1e-5) -> dict[str, Any]:
  """Multiplies every batch norm that follows a layer into its weights.

  kernel' = kernel * gamma / sqrt(var + epsilon)
  bias'   = beta + (bias - mean) * gamma / sqrt(var + epsilon)

  Args:
    params: nested dict. Wherever a dict has both keys `layer` and `norm`, the
      first (kernel, maybe bias) is what the second (scale, bias) normalises.
      A norm may have no scale.
    stats: nested dict with the same paths: `norm` holds mean and var.
    layer: the layer's key.
    norm: the batch norm's key.
    epsilon: the batch norm's.

  Returns:
    The nested dict without the `norm` entries; folded layers have a bias. Masks
    and factors stay what they are.

  Raises:
    ValueError: a kernel is already quantized (fold first), stats are missing, or
      there is nothing to fold.

  Source: Jacob et al. 2018, section 3.2.

  Example:
    >>> import jax.numpy as jnp
    >>> one = jnp.ones(1)
    >>> params = {"conv": {"kernel": one[None]}, "norm": {"scale": 2 * one, "bias": one}}
    >>> folded = batch_norm(params, {"norm": {"mean": one, "var": one}}, epsilon=0.0)
    >>> folded["conv"]["kernel"].tolist(), folded["conv"]["bias"].tolist()
    ([[2.0]], [-1.0])
  """
  folded = _fold(params, stats, layer, norm, epsilon, "")
  if jax.tree.structure(folded) == jax.tree.structure(params):
    raise ValueError(f"layer={layer!r}, norm={norm!r}: no dict of the tree has both keys")
  return folded


def _fold(params: Any, stats: Any, layer: str, norm: str, epsilon: float, path: str) -> Any:
  """Returns a nested dict with its layers folded; `stats` is the dict of the same place."""
  if not isinstance(params, Mapping):
    return params
  folds = layer in params and norm in params
  out = {}
  for key, value in params.items():
    if folds and key == norm:
      continue  # it goes into the layer
    if folds and key == layer:
      out[key] = _folded(value, params[norm], stats, norm, epsilon, f"{path}{key}/")
    else:
      inner = stats.get(key, {}) if isinstance(stats, Mapping) else {}
      out[key] = _fold(value, inner, layer, norm, epsilon, f"{path}{key}/")
  return out


def _folded(layer: Any, norm: Any, stats: Any, norm_key: str, epsilon: float,
            path: str) -> dict[str, Any]:
  if norm_key not in stats:
    raise ValueError(f"{path}: stats must have the mean and var of {norm_key!r}")
  mean, var = stats[norm_key]["mean"], stats[norm_key]["var"]
  factor = norm.get("scale", 1.0) * jax.lax.rsqrt(var + epsilon)
  bias = layer.get("bias", 0.0)
  with checks.at(f"{path}kernel"):
    kernel = scaled(layer["kernel"], factor)
  return {**layer, "kernel": kernel, "bias": norm["bias"] + (bias - mean) * factor}
