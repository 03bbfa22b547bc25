"""Several models as one: teachers to learn from, or students that vote."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float

from compress_jax import checks
from compress_jax.leaves.base import Array


def average(logits: Float[Array, "models batch classes"], *,
            temperature: Float[Array, ""] | float = 1.0,
            weights: Float[Array, " models"] | None = None) -> Float[Array, "batch classes"]:
  """Returns the logits of the average of several models' probabilities.

  softmax(result / T) = sum over models of weight * softmax(logits / T), so that
  the result serves any loss as one teacher's logits, and its largest is the
  ensemble's prediction.

  Args:
    logits: (models, batch, classes), any float dtype.
    temperature: T, positive; may be traced.
    weights: (models,), not negative, rescaled to sum to 1; None is even.

  Returns:
    float32, (batch, classes), differentiable.

  Raises:
    ValueError: shapes that do not belong together, no models, temperature not positive, a
      negative weight, or weights that are all 0.

  Source: averaged soft targets: Hinton, Vinyals and Dean 2015, section 1; students
  averaged by probability: "An analysis of compression methods", takeaway 11.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> two = jnp.log(jnp.array([[[0.9, 0.1]], [[0.5, 0.5]]]))
    >>> [round(p, 4) for p in jax.nn.softmax(average(two)).tolist()[0]]
    [0.7, 0.3]
  """
  if logits.ndim != 3 or not len(logits):
    raise ValueError(f"logits {logits.shape}: must be (models, batch, classes), of one model or "
                     "more")
  if weights is not None and jnp.shape(weights) != logits.shape[:1]:
    raise ValueError(f"logits {logits.shape}, weights {jnp.shape(weights)}: must be "
                     "(models, batch, classes), (models,)")
  checks.one("temperature", temperature, 1e-6, 1e30)
  weights = jnp.ones(len(logits)) if weights is None else jnp.asarray(weights, jnp.float32)
  checks.number("weights", weights, 0, float("inf"))
  total = checks.concrete(weights.sum())
  if total is not None and not total > 0:
    raise ValueError(f"weights={weights}: must have one above 0")
  # In logarithms throughout: a probability of next to nothing would round to 0.
  log_w = jnp.log(weights / weights.sum())[:, None, None]
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
  weighted = log_w + log_p
  # A class that all models rule out has no gradient: that of a logarithm of 0 would be NaN.
  none = jnp.isneginf(weighted).all(0)
  mixed = jax.nn.logsumexp(jnp.where(none, 0.0, weighted), axis=0)
  return temperature * jnp.where(none, -jnp.inf, mixed)
