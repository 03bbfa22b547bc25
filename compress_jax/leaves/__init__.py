"""Compressed leaves: one leaf per file; `base.Leaf` is the contract."""

from compress_jax.leaves.base import (
    Leaf,
    Node,
    Payload,
    UnsupportedError,
    is_leaf,
    is_node,
    node,
    static,
)
from compress_jax.leaves.block_sparse import BlockSparse
from compress_jax.leaves.clustered import Clustered
from compress_jax.leaves.either import dense_of, freeze_of, input_grid_of, mask_of, parts_of
from compress_jax.leaves.fake_float import FakeFloat
from compress_jax.leaves.fake_quant import FakeQuant
from compress_jax.leaves.float import Float
from compress_jax.leaves.input_grids import Dynamic, StaticGrid
from compress_jax.leaves.low_rank import LowRank
from compress_jax.leaves.masked import Masked, apply_mask
from compress_jax.leaves.quantized import Quantized
from compress_jax.leaves.spatial import Spatial
from compress_jax.leaves.tucker import Tucker2
from compress_jax.leaves.wrapper import Wrapper

# The name of the static grid in version 0.3.
Activation = StaticGrid

__all__ = [
    "Activation", "BlockSparse", "Clustered", "Dynamic", "FakeFloat", "FakeQuant", "Float", "Leaf",
    "LowRank", "Masked", "Node", "Payload", "Quantized", "Spatial", "StaticGrid", "Tucker2",
    "UnsupportedError", "Wrapper",
    "apply_mask", "dense_of", "freeze_of", "input_grid_of", "is_leaf",
    "is_node", "mask_of", "node", "parts_of", "static",
]
