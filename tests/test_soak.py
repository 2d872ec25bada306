"""A short soak: workers killed at random while runs are submitted, cancelled and retried; every payment accounted for.

``SOAK_SECONDS=600`` makes it a long one; so does ``python -m tests.soak``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from faults.servers import binaries
from pages import ROOT

SECONDS = float(os.environ.get("SOAK_SECONDS", "6"))


@pytest.mark.skipif(not binaries(), reason="no server")
def test_no_run_is_lost_and_nothing_is_paid_twice_however_workers_die() -> None:
    words = [sys.executable, "-m", "tests.soak", "--seconds", str(SECONDS), "--workers", "3"]
    soaked = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS * 2 + 240)
    assert soaked.stdout, soaked.stderr
    report = json.loads(soaked.stdout)
    assert soaked.returncode == 0 and not report["wrong"] and report["paid twice"] == 0, report
    assert report["did"]["kill"] > 0 and report["payments"] > 0, f"nothing happened: {report}"
