"""Pruning: transforms that put masks over weights."""

from compress_jax.leaves import mask_of
from compress_jax.prune.iterative import gradual, iterative, rewind
from compress_jax.prune.ranking import keep_largest, smallest
from compress_jax.prune.structured import block, filters, n_m
from compress_jax.prune.unstructured import magnitude, random, snip

__all__ = ["block", "filters", "gradual", "iterative", "keep_largest", "magnitude", "mask_of",
           "n_m", "random", "rewind", "smallest", "snip"]
