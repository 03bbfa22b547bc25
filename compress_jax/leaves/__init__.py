"""Compressed leaves: one file a leaf; see `base.Leaf` for the contract."""

from compress_jax.leaves.base import Leaf, Node, Payload, dense_of, freeze_of, is_leaf
from compress_jax.leaves.clustered import Clustered
from compress_jax.leaves.fake_quant import FakeQuant
from compress_jax.leaves.grid import Activation
from compress_jax.leaves.low_rank import LowRank
from compress_jax.leaves.masked import Masked, apply_mask
from compress_jax.leaves.quantized import Quantized

__all__ = ["Activation", "Clustered", "FakeQuant", "Leaf", "LowRank", "Masked", "Node", "Payload",
           "Quantized", "apply_mask", "dense_of", "freeze_of", "is_leaf"]
