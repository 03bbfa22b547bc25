"""What a run says, also where its terminal was closed."""

import os
import pty
import subprocess
import sys

PROGRAM = """
import sys
from experiments.training.progress import Bar, say
say("before")
sys.stdin.readline()
say("after")
with Bar("base", 2, 8) as bar:
  bar.update(1, 0.5, 0.5)
open(sys.argv[1], "w").write("done")
"""


def test_a_run_goes_on_when_its_terminal_is_closed(tmp_path):
  ours, terminal = pty.openpty()
  process = subprocess.Popen([sys.executable, "-c", PROGRAM, tmp_path / "end"], stdout=terminal,
                             stderr=subprocess.PIPE, stdin=subprocess.PIPE, start_new_session=True)
  os.close(terminal)
  assert os.read(ours, 6) == b"before"
  os.close(ours)
  assert process.communicate(b"\n")[1] == b"" and process.returncode == 0
  assert (tmp_path / "end").read_text() == "done"
