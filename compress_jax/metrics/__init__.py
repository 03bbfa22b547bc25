"""Measures of a compressed model."""

from compress_jax.metrics.latency import Latency, latency
from compress_jax.metrics.operations import Operations, operations, total
from compress_jax.metrics.quality import quality
from compress_jax.metrics.size import Size, count, size
from compress_jax.metrics.sparsity import sparsity

__all__ = ["Latency", "Operations", "Size", "count", "latency", "operations", "quality", "size",
           "sparsity", "total"]
