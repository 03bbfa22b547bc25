"""Measures of a compressed model beside its size."""

from compress_jax.metrics.latency import Latency, latency
from compress_jax.metrics.operations import Operations, operations, total
from compress_jax.metrics.quality import quality
from compress_jax.metrics.sparsity import sparsity

__all__ = ["Latency", "Operations", "latency", "operations", "quality", "sparsity", "total"]
