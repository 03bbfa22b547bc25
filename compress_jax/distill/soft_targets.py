"""Losses on a teacher's softened probabilities, beside the labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from compress_jax import checks
from compress_jax.leaves.base import Array

# Of one batch; "" is a scalar. `tests/test_annotations.py` holds what runs against them.
Logits = Float[Array, "batch classes"]
Labels = Int[Array, " batch"]
Scalar = Float[Array, ""]


def cross_entropy(logits: Logits, labels: Labels) -> Scalar:
  """Returns the cross-entropy of integer labels.

  Args:
    logits: (batch, classes), any float dtype.
    labels: (batch,), integers from 0; one that is no class makes the result NaN.

  Returns:
    float32 scalar, the mean over the batch, in nats.

  Raises:
    ValueError: shapes that do not belong together, or labels that are not integers.

  Example:
    >>> import jax.numpy as jnp
    >>> round(float(cross_entropy(jnp.zeros((1, 2)), jnp.array([0]))), 4)
    0.6931
  """
  if logits.ndim != 2 or labels.shape != logits.shape[:1]:
    raise ValueError(f"logits {logits.shape}, labels {labels.shape}: must be (batch, classes) and "
                     "(batch,); more axes of examples go into the batch by `reshape`")
  if not jnp.issubdtype(labels.dtype, jnp.integer):
    raise ValueError(f"labels: {labels.dtype}; must be integers")
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
  found = jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
  # Indices below 0 count from the end: padding would be the last class.
  return -jnp.where(labels < 0, jnp.nan, found).mean()


def kl(student_logits: Logits, teacher_logits: Logits, *, temperature: Scalar | float) -> Scalar:
  """Returns the soft term alone: T^2 * KL(softmax(teacher / T) || softmax(student / T)).

  T^2 keeps the gradient's size as T changes (Hinton et al. 2015, section 2).

  Args:
    student_logits: (batch, classes).
    teacher_logits: (batch, classes); no gradient flows into them.
    temperature: T, positive; may be traced.

  Returns:
    float32 scalar, the mean over the batch, in nats.

  Raises:
    ValueError: temperature not positive, or shapes that do not belong together.

  Example:
    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[1.0, 2.0]])
    >>> float(kl(logits, logits, temperature=3.0))
    0.0
  """
  log_t, log_s = _softened(student_logits, teacher_logits, temperature)
  # A class that the teacher rules out (a logit of -inf) adds nothing.
  possible = jnp.isfinite(log_t)
  gap = jnp.where(possible, log_t, 0) - jnp.where(possible, log_s, 0)
  return temperature**2 * (jnp.exp(log_t) * gap).sum(-1).mean()


def hinton(student_logits: Logits, teacher_logits: Logits, labels: Labels, *,
           temperature: Scalar | float, alpha: Scalar | float) -> Scalar:
  """Returns the loss on soft targets at a temperature, beside the labels.

  alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T))
  + (1 - alpha) * cross-entropy(student, labels)

  The soft term is the KL divergence, which differs from the paper's
  cross-entropy by the teacher's entropy only, and so has its gradient.

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
  "Combinatorics with model compression", section 3.3; KL and cross-entropy as in
  "Comparative analysis of distillation, quantization and pruning", section D.

  Example:
    >>> import jax.numpy as jnp
    >>> logits = jnp.array([[1.0, 2.0]])
    >>> float(hinton(logits, logits, jnp.array([0]), temperature=5.0, alpha=1.0))
    0.0
  """
  soft = kl(student_logits, teacher_logits, temperature=temperature)
  return _with_labels(soft, student_logits, labels, alpha)


def soft_cross_entropy(student_logits: Logits, teacher_logits: Logits, labels: Labels, *,
                       temperature: Scalar | float, alpha: Scalar | float) -> Scalar:
  """Returns Hinton's loss with the cross-entropy in the divergence's place.

  alpha * T^2 * (-sum q_t log q_s) + (1 - alpha) * cross-entropy(student, labels),
  where q = softmax(logits / T). Its gradient is `hinton`'s; its value does not
  reach 0 for a student that equals its teacher.

  Args:
    student_logits: as in `hinton`.
    teacher_logits: as in `hinton`.
    labels: as in `hinton`.
    temperature: as in `hinton`.
    alpha: as in `hinton`.

  Returns:
    float32 scalar, the mean over the batch, in nats.

  Raises:
    ValueError: as in `hinton`.

  Source: "An analysis of compression methods for deep learning networks", section V-C.

  Example:
    >>> import jax.numpy as jnp
    >>> even = jnp.zeros((1, 2))
    >>> loss = soft_cross_entropy(even, even, jnp.array([0]), temperature=2.0, alpha=1.0)
    >>> round(float(loss / 2**2), 4)
    0.6931
  """
  log_t, log_s = _softened(student_logits, teacher_logits, temperature)
  soft = temperature**2 * _crossed(log_t, log_s)
  return _with_labels(soft, student_logits, labels, alpha)


def unscaled_cross_entropy(student_logits: Logits, teacher_logits: Logits, labels: Labels, *,
                           temperature: Scalar | float, alpha: Scalar | float) -> Scalar:
  """Returns the soft cross-entropy without T^2, beside the labels.

  alpha * (-sum q_t log(q_s / T)) + (1 - alpha) * cross-entropy(student, labels),
  where q = softmax(logits / T). The paper writes T under the student's
  probability, which adds the constant log T and no gradient; that q is softened
  is our reading, for T would have no effect otherwise. Without T^2 the soft term's
  gradient shrinks as 1 / T^2.

  Args:
    student_logits: as in `hinton`.
    teacher_logits: as in `hinton`.
    labels: as in `hinton`.
    temperature: as in `hinton`.
    alpha: as in `hinton`.

  Returns:
    float32 scalar, the mean over the batch, in nats.

  Raises:
    ValueError: as in `hinton`.

  Source: "Report on model compression", equations 3 to 5 (alpha is its lambda).

  Example:
    >>> import jax.numpy as jnp
    >>> even = jnp.zeros((1, 2))
    >>> loss = unscaled_cross_entropy(even, even, jnp.array([0]), temperature=2.0, alpha=1.0)
    >>> round(float(loss), 4)  # log 2 + log T
    1.3863
  """
  log_t, log_s = _softened(student_logits, teacher_logits, temperature)
  soft = _crossed(log_t, log_s - jnp.log(jnp.asarray(temperature, jnp.float32)))
  return _with_labels(soft, student_logits, labels, alpha)


def _softened(student_logits: Array, teacher_logits: Array,
              temperature: Array | float) -> tuple[Logits, Logits]:
  """Returns log-probabilities of teacher and student at the temperature, float32."""
  if student_logits.shape != teacher_logits.shape or student_logits.ndim != 2:
    raise ValueError(f"student_logits {student_logits.shape}, teacher_logits "
                     f"{teacher_logits.shape}: must be (batch, classes) twice")
  checks.one("temperature", temperature, 1e-6, 1e30)
  teacher = jax.lax.stop_gradient(teacher_logits).astype(jnp.float32)
  student = student_logits.astype(jnp.float32)
  return jax.nn.log_softmax(teacher / temperature), jax.nn.log_softmax(student / temperature)


def _crossed(log_t: Logits, log_s: Logits) -> Scalar:
  """Returns the cross-entropy of softened probabilities, the mean over the batch."""
  # As in `kl`: 0 * -inf would be NaN.
  possible = jnp.isfinite(log_t)
  return -(jnp.exp(log_t) * jnp.where(possible, log_s, 0)).sum(-1).mean()


def _with_labels(soft: Scalar, student_logits: Logits, labels: Array,
                 alpha: Array | float) -> Scalar:
  """Returns the soft term and the labels' cross-entropy, weighted by alpha and what is left."""
  if labels.shape != student_logits.shape[:1]:
    raise ValueError(f"labels {labels.shape}: must be {student_logits.shape[:1]}, one per example")
  checks.one("alpha", alpha, 0, 1)
  return alpha * soft + (1 - alpha) * cross_entropy(student_logits, labels)
