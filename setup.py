"""The wheel carries the studies in a folder of the library, from where `compress-jax` runs them.

As packages of their own they would have names, `experiments` and `configs`, that other projects
have too. Everything else about the package is in setup.cfg and pyproject.toml.
"""

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

_STUDIES = ("experiments", "configs", "benchmarks")
_HOME = "compress_jax._studies"


def _packages() -> dict[str, str]:
  """Returns {package in the wheel: folder here} of all that there is."""
  found = find_packages(include=["compress_jax*"])
  made = {name: name.replace(".", "/") for name in found}
  made[_HOME] = "."
  for study in _STUDIES:
    for name in [study, *(f"{study}.{inner}" for inner in find_packages(study))]:
      made[f"{_HOME}.{name}"] = name.replace(".", "/")
  return made


class _BuildPy(build_py):
  """Copies modules, launch.py of this folder among them, but not this file."""

  def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
    """Returns (package, module, file) of each module of a package.

    Args:
      package: its name in the wheel.
      package_dir: its folder here.
    """
    found = super().find_package_modules(package, package_dir)
    return [each for each in found if each[:2] != (_HOME, "setup")]


setup(cmdclass={"build_py": _BuildPy}, packages=list(_packages()), package_dir=_packages(),
      package_data={"": ["*.json", "py.typed", "templates/*"]})
