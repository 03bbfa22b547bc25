"""ResNet-18 on CIFAR-10: the study of "An analysis of compression methods"."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import compress_jax as cj
from experiments.studies import seeds, timed
from experiments.studies.takeaways import report
from experiments.studies.takeaways.config import check, pruned, sparsity, stage_of_round
from experiments.training import techniques
from experiments.training.progress import Log


class Takeaways(timed.Timed):
  """One seed of the study.

  A stage's name is its techniques in order, joined by "+": a student's name, "kd" (the
  student of the combinations), "prunedNN" (the round), "static", "qat".
  """

  @property
  def names(self) -> Sequence[str]:
    """The models of all tables, each once."""
    c, at_77 = self.config, pruned(self.config, 0.77)
    rounds = [stage_of_round(number) for number in c.pruning.rounds]
    designs = [name for name in c.students if name != "combined"]
    return ["base", "static", "qat", *rounds, *designs,
            "ensemble", "kd", f"kd+{at_77}", "kd+qat", f"{at_77}+qat", f"kd+{at_77}+qat"]

  def parent(self, name: str) -> str | None:
    if name == "base":
      return None
    if name == "ensemble":
      return self.config.ensemble[0]
    *before, last = name.split("+")
    if last.startswith("pruned"):
      # A round starts from the one before, the first from the model that is pruned.
      rounds = list(self.config.pruning.rounds)
      place = rounds.index(_round(last))
      if place > 0:
        before.append(stage_of_round(rounds[place - 1]))
    return "+".join(before) or "base"

  def needs(self, name: str) -> Sequence[str]:
    """The parent; of an ensemble, all of its members."""
    return list(self.config.ensemble) if name == "ensemble" else super().needs(name)

  def spec(self, name: str) -> Mapping[str, Any]:
    c, last = self.config, name.split("+")[-1]
    if name == "base":
      return self.base_spec(c.model, c.base)
    if name == "ensemble":
      return {"members": [self.stage(member).digest for member in c.ensemble]}
    if last in ("static", "qat"):
      return {last: c[last].to_dict()}
    if last.startswith("pruned"):
      return {"sparsity": sparsity(c, _round(last)), "where": c.pruning.where,
              "train": self._recovery(name).train.to_dict()}
    return {"student": self._student(last).to_dict(), "distil": c.distil.to_dict()}

  def _recovery(self, name: str) -> Any:
    """Returns the part of the configuration that says how a round of pruning recovers."""
    return self.config.student_pruning if name.startswith("kd+") else self.config.pruning

  def _student(self, name: str) -> Any:
    return self.config.students["combined" if name == "kd" else name]

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    c, last = self.config, name.split("+")[-1]
    if name == "base":
      return self.teach(c.model, c.base, work, log)
    if name == "ensemble":
      return ensemble([self.trained(member) for member in c.ensemble]), {}
    parent = self.trained(self.parent(name))
    if last == "static":
      return techniques.quantize(parent, self.data, **c.static.to_dict())
    if last == "qat":
      return techniques.quantize_aware(parent, self.data, self.recipe(c.qat), work, log,
                                       stream=name, bits=c.qat.bits, images=c.qat.images,
                                       activation_bits=c.qat.activation_bits)
    if last.startswith("pruned"):
      parent = masked(parent, sparsity(c, _round(last)), c.pruning.where)
      return techniques.finetune(parent, self.data, self.recipe(self._recovery(name)), work, log,
                                 stream=name)
    return self.distil(parent, self._student(last), c.distil, work, log,
                       temperature=c.distil.temperature, alpha=c.distil.alpha)

  def row(self, name: str) -> dict[str, Any]:
    """Returns a stage's row; an ensemble's seconds are those of all its members."""
    row = super().row(name)
    if name == "ensemble":
      # Its lineage has the first member only.
      rest = sum(self.result(m).metrics["seconds"] for m in self.config.ensemble[1:])
      row["seconds"] = round(row["seconds"] + rest, 1)
    return row


def _round(technique: str) -> int:
  return int(technique.removeprefix("pruned"))


def masked(parent: techniques.Trained, rate: float, where: str) -> techniques.Trained:
  """Returns a model with its smallest weights masked, layer by layer; no weight is put back.

  Args:
    parent: the model; masks that are there stay.
    rate: fraction of each layer's weights that is zero afterwards, 0 to 1.
    where: regular expression on the paths of what is pruned.
  """
  return parent.with_params(_prune(parent.params, jnp.float32(rate), where))


# Compiled, with the rate traced: one program serves all rounds.
@functools.partial(jax.jit, static_argnums=2)
def _prune(params: Any, rate: jax.Array, where: str) -> Any:
  return cj.prune.magnitude(params, rate, scope="layer", where=where)


def ensemble(members: Sequence[techniques.Trained]) -> techniques.Trained:
  """Returns students as one model, whose probabilities are the mean of theirs.

  Args:
    members: models of `experiments.models.students`, all of one dtype.

  Source: takeaway 11 of "An analysis of compression methods".
  """
  variables = {}
  for kind in members[0].variables:
    variables[kind] = {f"member{i}": member.variables[kind] for i, member in enumerate(members)}
  designs = [{field: value for field, value in member.arguments.items() if field != "dtype"}
             for member in members]
  arguments = {"members": designs, "dtype": members[0].arguments["dtype"]}
  return dataclasses.replace(members[0], name="ensemble", arguments=arguments,
                             variables=variables)


# Called as `run(config, workdir, data_dir, manner=)`: what is left of `seeds.run`, which says more.
run = functools.partial(seeds.run, Takeaways, check, report.write)
