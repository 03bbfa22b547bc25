"""The rules of `lift`: importing this package registers them."""

from compress_jax.lift.rules import control_flow, factors, joined, products, rearranging, sharded

__all__ = ["control_flow", "factors", "joined", "products", "rearranging", "sharded"]
