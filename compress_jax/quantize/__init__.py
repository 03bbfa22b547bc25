"""Quantization: transforms that put weights, and layers' inputs, on few values."""

from compress_jax.quantize.activations import calibrate
from compress_jax.quantize.shared import cluster
from compress_jax.quantize.weights import affine, learned

__all__ = ["affine", "calibrate", "cluster", "learned"]
