"""Learning from a teacher's features, as `capture` shows them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float

from compress_jax.leaves.base import Array


def hint(student: Float[Array, "batch *positions width"],
         teacher: Float[Array, "batch *positions channels"],
         projection: Float[Array, "width channels"] | None = None) -> Float[Array, ""]:
  """Returns half the squared distance between features, the mean over the batch.

  Args:
    student: (batch, ..., width), what `cj.capture` shows of a layer.
    teacher: (batch, ..., channels), of the same positions; no gradient
      flows into it.
    projection: (width, channels), the regressor, which trains
      with the student; None where student and teacher have equally many channels.

  Returns:
    float32 scalar.

  Raises:
    ValueError: shapes that do not belong together.

  Source: Romero et al. 2015, "FitNets: hints for thin deep nets", equation 3.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> apply = lambda params, x: x @ params["w"]
    >>> _, seen = cj.capture(apply)({"w": jnp.eye(2)}, jnp.ones((1, 2)))
    >>> float(hint(seen["w"][0].output, jnp.array([[1.0, 3.0]])))
    2.0
  """
  _check_shapes(student, teacher, projection)
  student = student.astype(jnp.float32)
  projected = student if projection is None else student @ projection.astype(jnp.float32)
  gap = projected - jax.lax.stop_gradient(teacher).astype(jnp.float32)
  # A sum over positions and channels, as the paper has it: only the batch is averaged.
  return (gap * gap).sum() / (2 * teacher.shape[0])


def _check_shapes(student: Array, teacher: Array, projection: Array | None) -> None:
  if projection is None:
    given, fits = None, student.shape == teacher.shape
  else:
    given = projection.shape
    fits = (student.shape[:-1] == teacher.shape[:-1]
            and given == (student.shape[-1], teacher.shape[-1]))
  if not fits:
    raise ValueError(f"student {student.shape}, teacher {teacher.shape}, projection {given}: the "
                     "student's features, projected, must have the teacher's shape")
