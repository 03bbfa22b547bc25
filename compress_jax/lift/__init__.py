"""`lift` runs any JAX function on trees with compressed leaves; README.md says how."""

from compress_jax.lift.interpreter import Interpreter, capture, interpret, lift
from compress_jax.lift.registry import Captured, NoRule, Ref, register

__all__ = ["Captured", "Interpreter", "NoRule", "Ref", "capture", "interpret", "lift", "register"]
