"""Files for other tools: StableHLO programs, safetensors, ONNX graphs."""

from compress_jax.export.onnx_file import onnx
from compress_jax.export.program import stablehlo
from compress_jax.export.tensors import safetensors

__all__ = ["onnx", "safetensors", "stablehlo"]
