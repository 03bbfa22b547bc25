"""Search: how much to prune, round and factorize each layer, given what a device allows."""

from compress_jax.search.choices import Choice, Plan, apply, options
from compress_jax.search.front import front
from compress_jax.search.knapsack import cheapest
from compress_jax.search.limits import Limits, Point
from compress_jax.search.sensitivity import Table, layer_bytes, sensitivities, sensitivity
from compress_jax.search.suggest import Suggestion, suggest

__all__ = ["Choice", "Limits", "Plan", "Point", "Suggestion", "Table", "apply", "cheapest", "front",
           "layer_bytes", "options", "sensitivities", "sensitivity", "suggest"]
