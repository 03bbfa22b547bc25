"""What a stage, checkpoint, workdir or artifact holds: `python -m compress_jax.inspect PATH`."""

from compress_jax.inspect.checking import check
from compress_jax.inspect.lineage import Stage
from compress_jax.inspect.reader import InspectError, Inspection, measured, read, tree_of

__all__ = ["InspectError", "Inspection", "Stage", "check", "measured", "read", "tree_of"]
