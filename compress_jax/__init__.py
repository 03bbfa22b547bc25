"""compress_jax: neural-network compression as pure functions over parameter trees."""

# The version comes first: stages read it.
__version__ = "0.1.0"

from compress_jax import artifact, checkpoint, distill, factorize, fold, prune, quantize, stages
from compress_jax.leaves import Activation, FakeQuant, Leaf, LowRank, Masked, Quantized, is_leaf
from compress_jax.lift import capture, lift
from compress_jax.rules import Captured, NoRule
from compress_jax.size import Size, count, size
from compress_jax.tree import dense, entries, freeze, merge, partition

__all__ = ["Activation", "Captured", "FakeQuant", "Leaf", "LowRank", "Masked", "NoRule",
           "Quantized", "Size", "artifact", "capture", "checkpoint", "count", "dense", "distill",
           "entries",           "factorize", "fold", "freeze", "is_leaf", "lift", "merge", "partition", "prune", "quantize",
           "size", "stages"]
