"""`lift` runs any JAX function on trees with compressed leaves; README.md says how."""

from compress_jax.lift import rules
from compress_jax.lift.interpreter import Interpreter, capture, interpret, lift, used_in_products
from compress_jax.lift.registry import Captured, NoRule, Ref, register

__all__ = ["Captured", "Interpreter", "NoRule", "Ref", "capture", "interpret", "lift", "register",
           "rules", "used_in_products"]
