"""What scripts/test makes of its reports: nothing that failed is counted as passed."""

from __future__ import annotations

import subprocess
from pathlib import Path

LIB = Path(__file__).parents[2] / "scripts" / "lib"
BAD = "<failure message='no'/>"


def report(path: Path, **cases: str) -> Path:
    rows = "".join(f"<testcase classname='c' name='{name}'>{mark}</testcase>" for name, mark in cases.items())
    path.write_text(f"<testsuites><testsuite failures='9' errors='9'>{rows}</testsuite></testsuites>")
    return path


def totals(*reports: Path) -> tuple[int, list[str]]:
    done = subprocess.run([LIB / "totals", *reports], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def test_totals_name_what_failed(tmp_path: Path) -> None:
    good, mixed = report(tmp_path / "good.xml", a=""), report(tmp_path / "mixed.xml", b="", d=BAD, e="<error/>", f="<skipped/>")
    assert totals(good) == (0, ["1 passed, 0 failed"])
    assert totals(good, mixed) == (1, ["failed: c.d", "failed: c.e", "1 skipped", "2 passed, 2 failed"])
    assert totals(good, tmp_path / "absent.xml")[0] == 1
    assert totals(report(tmp_path / "none.xml")) == (1, ["0 passed, 0 failed"]), "an empty run proves nothing"


def test_only_what_passed_alone_is_settled(tmp_path: Path) -> None:
    marks = {"fails_twice": BAD, "errs_twice": "<error/>", "passes_alone": BAD, "skipped_alone": BAD, "not_run_again": BAD}
    first = report(tmp_path / "first.xml", good="", **marks)
    again = report(tmp_path / "again.xml", fails_twice=BAD, errs_twice="<error/>", passes_alone="", skipped_alone="<skipped/>")
    done = subprocess.run([LIB / "settle", first, again], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["  failed at first, passed alone: c.passes_alone"]
    assert totals(first) == (
        1, ["failed: c.fails_twice", "failed: c.errs_twice", "failed: c.skipped_alone", "failed: c.not_run_again", "2 passed, 4 failed"]
    )  # fmt: skip


def test_a_teardown_that_fails_again_stays_failed(tmp_path: Path) -> None:
    first, again = report(tmp_path / "first.xml", a=BAD), tmp_path / "again.xml"
    rows = f"<testcase classname='c' name='a'/><testcase classname='c' name='a'>{BAD}</testcase>"
    again.write_text(f"<testsuites><testsuite>{rows}</testsuite></testsuites>")
    subprocess.run([LIB / "settle", first, again], check=True)
    assert totals(first)[0] == 1
