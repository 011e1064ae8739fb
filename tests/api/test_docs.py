"""What the documents say of the interface is what the interface is."""

from __future__ import annotations

import subprocess
import sys

from harness import ROOT, program


def test_the_tables_of_the_protocol() -> None:
    words = [sys.executable, ROOT / "tools" / "protocol-tables", "--check", program("tesd")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
