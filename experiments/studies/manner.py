"""How a study is run: what changes no result."""

from __future__ import annotations

import dataclasses
import time


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manner:
  """How a study is run.

  Attributes:
    worker: whether stages that other processes work on are left to them, instead of
      waiting for each in turn.
    retry_failed: whether stages that failed in an earlier run are tried again.
    executor: "local", or "ray": stages are tasks of a Ray cluster.
    address: of the cluster, as `ray.init` takes it; "" starts one on this machine.
    cpus: that a stage takes of a cluster's.
    gpus: that a stage takes of a cluster's.
    started: when the run did, in seconds since 1970; failures after that are its own.
    looks: "plan" prints what is complete, failed, at work and waiting; "watch" goes on doing
      so until nothing is left; either runs nothing. "" runs the study.
  """

  worker: bool = False
  retry_failed: bool = False
  executor: str = "local"
  address: str = ""
  cpus: float = 1
  gpus: float = 0
  started: float = dataclasses.field(default_factory=time.time)
  looks: str = ""
