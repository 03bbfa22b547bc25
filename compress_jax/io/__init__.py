"""What is written and read: the artifact, checkpoints, stages; README.md says how."""
