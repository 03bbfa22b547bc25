"""Knowledge-distillation losses."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from compress_jax import tree
from compress_jax.leaves.base import Array


def cross_entropy(logits: Array, labels: Array) -> Array:
  """Cross-entropy of integer labels.

  Args:
    logits: (batch, classes), any float dtype.
    labels: (batch,), integers.

  Returns:
    float32 scalar, the mean over the batch, in nats.

  Example:
    >>> import jax.numpy as jnp
    >>> round(float(cross_entropy(jnp.zeros((1, 2)), jnp.array([0]))), 4)
    0.6931
  """
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
  return -jnp.take_along_axis(log_p, labels[:, None], axis=-1).mean()


def hinton(student_logits: Array, teacher_logits: Array, labels: Array, *,
           temperature: Array | float, alpha: Array | float) -> Array:
  """Soft targets at a temperature, beside the labels.

  alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T))
  + (1 - alpha) * cross-entropy(student, labels)

  The soft term is the KL divergence, which differs from the paper's
  cross-entropy by the teacher's entropy only, and so has its gradient; T^2 keeps
  the gradients of both terms in proportion as T changes.

  Args:
    student_logits: (batch, classes).
    teacher_logits: (batch, classes); no gradient flows into them.
    labels: (batch,), integers.
    temperature: T, positive; may be traced.
    alpha: weight of the soft term, 0 to 1; may be traced.

  Returns:
    float32 scalar, the mean over the batch, in nats.

  Raises:
    ValueError: temperature not positive, alpha outside 0 to 1, or shapes that
      do not belong together.

  Source: Hinton, Vinyals and Dean 2015, section 2; alpha on the soft term as in
  "Combinatorics with model compression", section 3.3.

  Example:
    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[1.0, 2.0]])
    >>> float(hinton(logits, logits, jnp.array([0]), temperature=5.0, alpha=1.0))
    0.0
  """
  if student_logits.shape != teacher_logits.shape or labels.shape != student_logits.shape[:1]:
    raise ValueError(f"student_logits {student_logits.shape}, teacher_logits "
                     f"{teacher_logits.shape}, labels {labels.shape}: may be (batch, classes) "
                     "twice and (batch,)")
  tree.check_number("temperature", temperature, 1e-6, float("inf"))
  tree.check_number("alpha", alpha, 0, 1)
  teacher = jax.lax.stop_gradient(teacher_logits).astype(jnp.float32) / temperature
  log_t = jax.nn.log_softmax(teacher)
  log_s = jax.nn.log_softmax(student_logits.astype(jnp.float32) / temperature)
  # A class that the teacher rules out (a logit of -inf) adds nothing.
  possible = jnp.isfinite(log_t)
  gap = jnp.where(possible, log_t, 0) - jnp.where(possible, log_s, 0)
  soft = (jnp.exp(log_t) * gap).sum(-1).mean()
  return alpha * temperature**2 * soft + (1 - alpha) * cross_entropy(student_logits, labels)
