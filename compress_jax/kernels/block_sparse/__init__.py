"""Products with block-sparse matrices: `matmul`, `conv`, and over a mesh `sharded_matmul`."""

from compress_jax.kernels.block_sparse.api import matmul
from compress_jax.kernels.block_sparse.convolution import conv
from compress_jax.kernels.block_sparse.sharded import shard, sharded_matmul

__all__ = ["conv", "matmul", "shard", "sharded_matmul"]
