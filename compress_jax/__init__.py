"""compress_jax: neural-network compression as pure functions over parameter trees."""

from compress_jax import distill, factorize, fold, prune, quantize
from compress_jax.leaves import Activation, FakeQuant, Leaf, LowRank, Masked, Quantized
from compress_jax.lift import capture, lift
from compress_jax.rules import Captured, NoRule
from compress_jax.tree import dense, freeze, merge, partition

__version__ = "0.1.0"

__all__ = ["Activation", "Captured", "FakeQuant", "Leaf", "LowRank", "Masked", "NoRule",
           "Quantized", "capture", "dense", "distill", "factorize", "fold", "freeze", "lift",
           "merge", "partition", "prune", "quantize"]
