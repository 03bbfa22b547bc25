"""Knowledge distillation: losses between a student and its teachers.

What the papers write:

| paper | loss |
|---|---|
| Hinton et al. 2015; "Combinatorics ...", section 3.3; "Comparative analysis ...", section D | `hinton` |
| "An analysis of compression methods", section V-C | `soft_cross_entropy` |
| "Report on model compression", equations 3 to 5 | `unscaled_cross_entropy` |

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
