"""Compressed leaves: one file a leaf; see `base.Leaf` for the contract."""

from compress_jax.leaves.activation import Activation, Dynamic
from compress_jax.leaves.base import Leaf, Node, Payload, dense_of, freeze_of, is_leaf
from compress_jax.leaves.block_sparse import BlockSparse
from compress_jax.leaves.clustered import Clustered
from compress_jax.leaves.fake_float import FakeFloat
from compress_jax.leaves.fake_quant import FakeQuant
from compress_jax.leaves.float import Float
from compress_jax.leaves.low_rank import LowRank
from compress_jax.leaves.masked import Masked, apply_mask
from compress_jax.leaves.quantized import Quantized
from compress_jax.leaves.spatial import Spatial
from compress_jax.leaves.tucker import Tucker2

__all__ = [
    "Activation", "BlockSparse", "Clustered", "Dynamic", "FakeFloat", "FakeQuant", "Float", "Leaf",
    "LowRank", "Masked", "Node", "Payload", "Quantized", "Spatial", "Tucker2", "apply_mask",
    "dense_of", "freeze_of", "is_leaf",
]
