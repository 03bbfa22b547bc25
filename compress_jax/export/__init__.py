"""Files for other tools: StableHLO programs, safetensors, ONNX graphs."""

from compress_jax.export.onnx_file import onnx
from compress_jax.export.program import stablehlo
from compress_jax.export.tensors import safetensors
from compress_jax.export.weights import register_onnx

__all__ = ["onnx", "register_onnx", "safetensors", "stablehlo"]
