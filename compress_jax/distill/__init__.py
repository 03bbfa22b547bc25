"""Knowledge distillation: losses between a student and its teachers.

What the papers write:

- `hinton`: Hinton et al. 2015; "Combinatorics with model compression", section 3.3;
  "Comparative analysis of distillation, quantization and pruning", section D.
- `soft_cross_entropy`: "An analysis of compression methods", section V-C.
- `unscaled_cross_entropy`: "Report on model compression", equations 3 to 5.

Several teachers, or an ensemble of students: `average` their logits first.
"""

from compress_jax.distill.ensembles import average
from compress_jax.distill.hints import hint
from compress_jax.distill.soft_targets import (
  cross_entropy,
  hinton,
  kl,
  soft_cross_entropy,
  unscaled_cross_entropy,
)

__all__ = ["average", "cross_entropy", "hint", "hinton", "kl", "soft_cross_entropy",
           "unscaled_cross_entropy"]
