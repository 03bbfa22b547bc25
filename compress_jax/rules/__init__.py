"""Rules of `lift`: `products`, `structure` and `control_flow`; see `registry`."""

from compress_jax.rules import control_flow, products, structure
from compress_jax.rules.products import product
from compress_jax.rules.registry import PRODUCTS, RULES, Captured, NoRule, Ref, bind, register

__all__ = ["PRODUCTS", "RULES", "Captured", "NoRule", "Ref", "bind", "control_flow", "product",
           "products", "register", "structure"]
