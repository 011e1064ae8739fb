"""Completion in the shells that people use, and the manual page."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from harness import wait_for
from stage import Cli

COMMANDS = ["login", "offers", "quote", "run", "apply", "ls", "show", "logs", "explain", "stop", "rm", "results", "bill", "balance"]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli("http://127.0.0.1:1", "none", tmp_path)


def shell(name: str, script: str, *words: str) -> str:
    program = shutil.which(name)
    if not program:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([program, *words, script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0 and not done.stderr, done
    return done.stdout


def test_bash(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "c").write_text(cli.ok("completion", "bash"))
    complete = f"""
source {tmp_path}/c
COMP_WORDS=(tes "$@"); COMP_CWORD=${{#@}}
f=$(complete -p tes | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"""
    out = shell("bash", complete + 'COMP_WORDS=(tes re); COMP_CWORD=1; $f tes re tes; echo "${COMPREPLY[@]}"', "-uec")
    assert out.split() == ["results"]
    out = shell("bash", complete + 'COMP_WORDS=(tes run --ma); COMP_CWORD=2; $f tes --ma run; echo "${COMPREPLY[@]}"', "-uec")
    assert {"--max-price", "--max-duration"} <= {w.rstrip("=") for w in out.split()}
    out = shell("bash", complete + 'COMP_WORDS=(tes offers --sort = pr); COMP_CWORD=4; $f tes pr =; echo "${COMPREPLY[@]}"', "-uec")
    assert out.split() == ["price"]


def test_zsh(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "_tes").write_text(cli.ok("completion", "zsh"))
    load = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump"
    out = shell("zsh", f"{load}; whence -w _tes; echo ${{_comps[tes]}}", "-fc")
    assert "_tes: function" in out and out.strip().endswith("_tes")
    shell("zsh", f"{tmp_path}/_tes", "-n")


@pytest.mark.parametrize(
    ("line", "completed"),
    [("tes resu", "results"), ("tes ls --state r", "running"), ("tes run --min-r", "--min-reliability"), ("tes completion z", "zsh")],
)
def test_zsh_completes_what_is_typed(cli: Cli, tmp_path: Path, line: str, completed: str) -> None:
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    (tmp_path / "_tes").write_text(cli.ok("completion", "zsh"))
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe("zsh", ["zsh", "-f"], {"TERM": "dumb", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    said = b""

    def says(word: str) -> bool:
        nonlocal said
        while select.select([fd], [], [], 0)[0]:
            said += os.read(fd, 65536)
        return word.encode() in said

    try:
        load = f"fpath=({tmp_path} $fpath); autoload -Uz compinit; compinit -u -d {tmp_path}/dump"
        os.write(fd, f"{load}; echo LOA''DED\n".encode())
        wait_for("zsh is ready", lambda: says("LOADED"))
        said = b""
        os.write(fd, f"{line}\t".encode())
        wait_for(f"{line} becomes {completed}", lambda: says(completed))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)


def test_fish(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tes.fish").write_text(cli.ok("completion", "fish"))
    out = shell("fish", f"source {tmp_path}/tes.fish; complete -C 'tes '", "--no-config", "-c")
    assert set(COMMANDS) <= {line.split("\t")[0] for line in out.splitlines()}
    out = shell("fish", f"source {tmp_path}/tes.fish; complete -C 'tes run --max'", "--no-config", "-c")
    assert "--max-price" in out


def test_manual_page(cli: Cli, tmp_path: Path) -> None:
    page = tmp_path / "tes.1"
    page.write_text(cli.ok("help", "--man"))
    if not shutil.which("man"):
        pytest.skip("man is not installed")
    done = subprocess.run(
        ["man", "--warnings", "-l", str(page)], capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "100", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    for command in COMMANDS:
        assert re.search(rf"\btes {command}\b", done.stdout), command


def test_every_command_has_help_and_json(cli: Cli) -> None:
    listed = cli.ok("--help")
    for command in COMMANDS:
        assert re.search(rf"^\s+{command}\b", listed, re.MULTILINE), command
        text = cli.ok(command, "--help")
        assert text.startswith(("usage:", "Usage:")) or f"tes {command}" in text
        assert "--json" in text
