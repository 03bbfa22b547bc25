"""Kernels: products that a leaf can do faster than its dense array."""

from compress_jax.kernels import block_sparse

__all__ = ["block_sparse"]
