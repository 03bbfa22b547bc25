"""The rules of `lift`: importing this package registers them."""

from compress_jax.lift.rules import control_flow, products, transpose

__all__ = ["control_flow", "products", "transpose"]
