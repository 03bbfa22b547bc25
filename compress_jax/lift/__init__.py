"""`lift` runs any JAX function on trees with compressed leaves; README.md says how."""

from compress_jax.lift import rules
from compress_jax.lift.interpreter import Interpreter
from compress_jax.lift.registry import Captured, NoRule, Ref, register
from compress_jax.lift.tracing import capture, interpret, lift
from compress_jax.lift.uses import used_in_products

__all__ = ["Captured", "Interpreter", "NoRule", "Ref", "capture", "interpret", "lift", "register",
           "rules", "used_in_products"]
