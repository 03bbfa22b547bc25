"""compress_jax: neural-network compression as pure functions over parameter trees."""

from compress_jax import (
  artifact,
  checkpoint,
  distill,
  export,
  factorize,
  fold,
  kernels,
  metrics,
  penalties,
  prune,
  quantize,
  schedules,
  search,
  stages,
)
from compress_jax.leaves import (
  Activation,
  BlockSparse,
  Clustered,
  Dynamic,
  FakeFloat,
  FakeQuant,
  Float,
  Leaf,
  LowRank,
  Masked,
  Quantized,
  Spatial,
  Tucker2,
  is_leaf,
)
from compress_jax.lift import capture, lift
from compress_jax.rules import Captured, NoRule
from compress_jax.size import Size, count, size
from compress_jax.tree import dense, entries, freeze, merge, partition
from compress_jax.version import __version__

__all__ = [
    "Activation", "BlockSparse", "Captured", "Clustered", "Dynamic", "FakeFloat", "FakeQuant",
    "Float", "Leaf", "LowRank", "Masked", "NoRule", "Quantized", "Size", "Spatial", "Tucker2",
    "__version__", "artifact", "capture", "checkpoint", "count", "dense", "distill", "entries",
    "export", "factorize", "fold", "freeze", "is_leaf", "kernels", "lift", "merge", "metrics",
    "partition", "penalties", "prune", "quantize", "schedules", "search", "size", "stages",
]
