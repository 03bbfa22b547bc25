"""The version; part of every stage's identity."""

__version__ = "0.10.0"
