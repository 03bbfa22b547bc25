"""Block-sparse matrix multiplication; see `api.matmul`."""

from compress_jax.kernels.block_sparse.api import matmul

__all__ = ["matmul"]
