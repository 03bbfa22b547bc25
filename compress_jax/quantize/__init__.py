"""Quantization: transforms that put weights, and layers' inputs, on few values."""

from compress_jax.quantize import observers
from compress_jax.quantize.activations import calibrate, dynamic
from compress_jax.quantize.floats import cast
from compress_jax.quantize.layouts import channel_axes
from compress_jax.quantize.shared import cluster
from compress_jax.quantize.weights import affine, learned, refit

__all__ = ["affine", "calibrate", "cast", "channel_axes", "cluster", "dynamic", "learned",
           "observers", "refit"]
