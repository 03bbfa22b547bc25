"""compress_jax: neural-network compression as pure functions over parameter trees."""

from compress_jax import (
    distill,
    export,
    factorize,
    kernels,
    metrics,
    prune,
    quantize,
    recipe,
    search,
)
from compress_jax.inspect.summary import Summary, summary
from compress_jax.io import artifact, checkpoint, stages
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
    Payload,
    Quantized,
    Spatial,
    StaticGrid,
    Tucker2,
    UnsupportedError,
    Wrapper,
    is_leaf,
    node,
    static,
)
from compress_jax.lift.registry import Captured, NoRule, register_product
from compress_jax.lift.tracing import capture, lift
from compress_jax.lift.uses import used_in_products
from compress_jax.metrics.size import Size, count, size
from compress_jax.optimizer import apply_updates, optimize
from compress_jax.prune import penalties, schedules
from compress_jax.quantize import fold
from compress_jax.recipe import compress
from compress_jax.trainable import merge, partition
from compress_jax.tree import dense, entries, freeze, named_as_weights, transform
from compress_jax.version import __version__

__all__ = [
    "Activation", "BlockSparse", "Captured", "Clustered", "Dynamic", "FakeFloat", "FakeQuant",
    "Float", "Leaf", "LowRank", "Masked", "NoRule", "Payload", "Quantized", "Size", "Spatial",
    "StaticGrid", "Summary", "Tucker2", "UnsupportedError", "Wrapper", "__version__",
    "apply_updates", "artifact", "capture", "checkpoint", "compress", "count", "dense", "distill",
    "entries", "export", "factorize", "fold", "freeze", "is_leaf", "kernels", "lift", "merge",
    "metrics", "named_as_weights", "node", "optimize", "partition", "penalties", "prune",
    "quantize", "recipe", "register_product", "schedules", "search", "size", "stages", "static",
    "summary", "transform", "used_in_products",
]
