"""The loss on labels, smoothed and mixed, alone or beside a teacher."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

import compress_jax as cj


def on_labels(logits: jax.Array, labels: jax.Array, smoothing: Any = None,
              share: Any = None) -> jax.Array:
  """Returns the cross-entropy of labels.

  Args:
    logits: (batch, classes).
    labels: (batch,), integers from 0; one that is no class makes the result NaN.
    smoothing: probability that is spread over all classes, 0 to 1, or None.
    share: each image's own share of it, where the rest is the image's from the other
      end of the batch (mixup), or None.

  Returns:
    float32 scalar, the mean over the batch, in nats.

  Source: Szegedy et al. 2016, section 7; Zhang et al. 2018 (mixup).

  Example:
    >>> import jax.numpy as jnp
    >>> round(float(on_labels(jnp.zeros((1, 2)), jnp.array([0]), smoothing=0.2)), 4)
    0.6931
  """
  if smoothing is None and share is None:
    return cj.distill.cross_entropy(logits, labels)
  targets = jax.nn.one_hot(labels, logits.shape[-1])
  # What is no class would otherwise only be smoothed away.
  targets = jnp.where(targets.sum(-1, keepdims=True) > 0, targets, jnp.nan)
  if share is not None:
    targets = share * targets + (1 - share) * targets[::-1]
  if smoothing is not None:
    targets = optax.losses.smooth_labels(targets, smoothing)
  return optax.losses.softmax_cross_entropy(logits.astype("float32"), targets).mean()


def on_teacher(logits: jax.Array, soft: jax.Array, labels: jax.Array, numbers: Any,
               smoothing: Any = None, share: Any = None) -> jax.Array:
  """Returns Hinton's loss; see `cj.distill.hinton`.

  Args:
    logits: the student's, (batch, classes).
    soft: the teacher's.
    labels: (batch,), integers.
    numbers: {"temperature", "alpha"}.
    smoothing: as in `on_labels`.
    share: as in `on_labels`.

  Returns:
    float32 scalar, the mean over the batch, in nats.
  """
  temperature, alpha = numbers["temperature"], numbers["alpha"]
  if smoothing is None and share is None:
    return cj.distill.hinton(logits, soft, labels, temperature=temperature, alpha=alpha)
  hard = on_labels(logits, labels, smoothing, share)
  return alpha * cj.distill.kl(logits, soft, temperature=temperature) + (1 - alpha) * hard
