"""Rules of `jax.shard_map`: each device runs the program inside on its part of a weight.

JAX exports neither of the two primitives, so their rules are registered by name.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
from jax.sharding import PartitionSpec

from compress_jax.lift.registry import Captured, Ref, as_no_rule, bind, register


@register("shard_map")
def _shard_map(interpreter: Any, equation: Any, *inputs: Any) -> list[Any]:
  p = equation.params
  # A body has constants only where it is closed over arrays, which JAX makes inputs.
  fn = interpreter.sub(p["jaxpr"], ())
  axes = tuple(sorted(p["newly_manual_axes"]))
  # Parts of arrays that are joined are not what is joined of their parts.
  inputs = tuple(x.dense() if isinstance(x, Ref) and x.watched else x for x in inputs)

  specs = [_specs(x, spec, p["mesh"]) for x, spec in zip(inputs, p["in_specs"], strict=True)]

  def body(*parts: Any) -> Any:
    outs, records = fn(*map(_as_cut, parts, specs, p["in_specs"]))
    # What a device saw is an entry of a new first axis, as a step of `scan` is. Which slices of
    # a stack it saw, it does not know: they may be cut over the devices.
    seen = {path: [Captured(use.input[None], use.output[None], use.terms) for use in uses]
            for path, uses in records.items()}
    return tuple(outs), seen

  run = jax.shard_map(
    body, mesh=p["mesh"], axis_names=set(axes), check_vma=p["check_vma"],
    in_specs=tuple(specs), out_specs=(tuple(p["out_specs"]), PartitionSpec(axes)))
  return interpreter.absorb(*run(*inputs))


def _as_cut(x: Any, specs: Any, spec: PartitionSpec) -> Any:
  """Marks what all parts of a weight share as differing between devices as the weight does."""
  if not isinstance(x, Ref) or not x.compressed:
    return x
  # Rules then meet arrays that JAX takes to vary alike, as the products of dense weights do.
  vary = lambda a, own: jax.lax.pcast(a, tuple(sorted(_cut(spec) - _cut(own))), to="varying")
  return dataclasses.replace(x, leaf=jax.tree.map(vary, x.leaf, specs.leaf))


def _cut(spec: PartitionSpec) -> set[str]:
  """Returns the axes of the mesh over which a `PartitionSpec` cuts."""
  return {name for entry in spec for name in _names(entry)}


def _names(entry: Any) -> tuple[str, ...]:
  """Returns the axes of the mesh that an entry of a `PartitionSpec` names."""
  names = entry if isinstance(entry, tuple) else (entry,)
  return tuple(name for name in names if name is not None)


def _specs(x: Any, spec: PartitionSpec, mesh: Any) -> Any:
  """Returns how an input is cut: for a leaf, in a tree like it."""
  if not isinstance(x, Ref) or not x.compressed:
    return spec
  entries = (*spec, *(None,) * (x.leaf.ndim - len(spec)))
  with as_no_rule("shard_map", x.path):
    specs = x.leaf.partition_specs(entries, [_shards(entry, mesh) for entry in entries])
  return dataclasses.replace(x, leaf=specs)


def _shards(entry: Any, mesh: Any) -> int:
  """Returns into how many parts an entry of a `PartitionSpec` cuts an axis."""
  return math.prod(mesh.shape[name] for name in _names(entry))


@register("pvary")
def _vary(interpreter: Any, equation: Any, x: Ref) -> list[Any]:
  """Marks all arrays of a weight as differing from device to device."""
  leaf = jax.tree.map(lambda a: bind(equation, [a])[0], x.leaf)
  return [dataclasses.replace(x, leaf=leaf)]
