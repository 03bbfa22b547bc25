"""What a CPU is told before JAX starts: only what helps, never over the user's own flags."""

import subprocess
import sys

import pytest

from experiments import cpu

AMX = "processor : 0\nflags\t\t: fpu sse avx512_bf16 amx_bf16 amx_tile\nbugs : none"


@pytest.mark.parametrize("cpuinfo,version,given", [
    (AMX, "0.10.2", None), (AMX, "0.12.0", ""), (AMX, "0.12.0", "--xla_dump_to=x"),
    ("flags : fpu sse avx2", "0.12.0", None), ("bugs : amx_bf16", "0.12.0", None),
    ("", "0.12.0", None)])
def test_flags_are_left_alone_where_they_would_not_help(cpuinfo, version, given):
  assert cpu.wanted_flag(cpuinfo, version, given) == ""


def test_a_cpu_with_bfloat16_gets_the_flag():
  assert cpu.wanted_flag(AMX, "0.12.0.1", None) == cpu.FLAG


def test_it_is_set_once_and_said(monkeypatch):
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  monkeypatch.setattr(cpu, "_cpuinfo", lambda: AMX)
  monkeypatch.setattr(cpu.importlib.metadata, "version", lambda name: "0.12.0")
  assert not cpu.fast_in_bfloat16()
  assert cpu.FLAG in cpu.prepare()
  assert cpu.fast_in_bfloat16() and cpu.prepare() == ""


def test_jax_is_not_imported():
  code = "import sys, experiments.cpu; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
