"""Low-rank factorization of the linear layers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import compress_jax as cj
from experiments.training.augment import normalize
from experiments.training.techniques.trained import Outcome, Trained

FISHER_IMAGES = 512


def factorize(parent: Trained, *, rank: int, delta: int, fisher: Any = None) -> Outcome:
  """Factorizes the linear layers; masks that they had are gone.

  Args:
    parent: the model.
    rank: of every layer; 0 uses `delta`.
    delta: the rank is r_max - delta, where r_max = d_in * d_out / (d_in + d_out).
    fisher: what each weight matters (`information`), or None: all weights matter the same.

  Returns:
    The model with `LowRank` linear layers, and {"ranks"}.

  Raises:
    ValueError: a layer cannot have such a rank.

  Source: equation 2 of "Combinatorics with model compression"; Fisher: Hsu et al. 2022.
  """
  chosen = {"rank": rank} if rank else {"delta": delta}
  params = cj.factorize.svd(parent.params, **chosen, fisher=fisher)
  ranks = {path: x.ranks[0] for path, x in cj.entries(params)[0] if cj.is_leaf(x) and x.ranks}
  return parent.with_params(params), {"ranks": ranks}


def information(trained: Trained, split: Any) -> Any:
  """Returns the Fisher information of a model's weights, from training images and their labels.

  Args:
    trained: the model.
    split: used like `splits.Split`; its first `FISHER_IMAGES` are enough.

  Returns:
    A tree like the dense parameters, for `factorize`.

  Source: Hsu et al. 2022, equation 5.
  """
  index = np.arange(min(FISHER_IMAGES, len(split)))
  images, labels = jnp.asarray(split.read(index)), jnp.asarray(split.labels[index])
  stats = {name: part for name, part in trained.variables.items() if name != "params"}

  def loss(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
    image, label = batch
    logits = trained.model.apply({**stats, "params": params}, normalize(image), train=False)
    return cj.distill.cross_entropy(logits, label)

  # One image at a time: the square of a mean of gradients is not the mean of their squares.
  batches = ((images[i:i + 1], labels[i:i + 1]) for i in range(len(images)))
  return cj.factorize.fisher(loss, trained.params, batches)
