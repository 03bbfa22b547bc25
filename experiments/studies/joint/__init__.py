"""All techniques in one training, beside the serial pipeline with as many epochs."""

from experiments.studies.joint.study import JointStudy, run

__all__ = ["JointStudy", "run"]
