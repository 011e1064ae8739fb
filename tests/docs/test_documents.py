"""The documents against the programs and the tables that they describe."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("TES_BUILD_DIR", ROOT / "build"))
SKIPPED_FOLDERS = {".git", ".demo", "build", "build-asan", "node_modules"}


def documents():
    return sorted(
        path
        for path in ROOT.rglob("*.md")
        if not any(
            part in SKIPPED_FOLDERS or part.startswith("build-")
            for part in path.relative_to(ROOT).parts
        )
    )


def read(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def program(name):
    for path in (BUILD / "src").rglob(name):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    pytest.fail(f"there is no {name} in {BUILD}: build first")


def run(name, *arguments):
    return subprocess.run(
        [program(name), *arguments], check=True, capture_output=True, text=True, timeout=30
    ).stdout


def config_keys(text):
    """(section, key) of a commented configuration file."""
    section = None
    for line in text.splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
        elif section and (match := re.match(r"#?(\w+) = ", line)):
            yield section, match[1]


def table_rows(text):
    """Cells of all rows of all tables."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def code(text):
    return re.findall(r"`([^`]+)`", text)


def documented_tesd_keys():
    section = None
    for line in read("operations.md").splitlines():
        if line.startswith("#"):
            match = re.fullmatch(r"### \[(\w+)\]", line)
            section = match[1] if match else None
        elif section and line.startswith("| `"):
            for key in code(line.split("|")[1]):
                yield section, key


def documented_worker_keys():
    section = None
    for cells in table_rows(read("provider.md")):
        if len(cells) != 4:
            continue
        if match := re.fullmatch(r"`\[(\w+)\]`", cells[0]):
            section = match[1]
        elif cells[0]:
            section = None
        if section:
            for key in code(cells[1]):
                yield section, key


def test_every_key_of_tesd_is_documented():
    keys = set(config_keys(run("tesd", "config")))
    assert keys
    assert set(documented_tesd_keys()) == keys


def test_every_key_of_tes_worker_is_documented():
    keys = set(config_keys(run("tes-worker", "config")))
    assert keys
    assert set(documented_worker_keys()) == keys


def test_shipped_tesd_conf_is_what_the_program_prints():
    shipped = (ROOT / "deploy" / "tesd.conf").read_text(encoding="utf-8")
    assert shipped.strip() == run("tesd", "config").strip()


def test_every_operation_is_in_the_table_with_who_may():
    description = json.loads(run("tesd", "openapi"))
    expected = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            if not isinstance(operation, dict) or "operationId" not in operation:
                continue
            security = operation.get("security", description["security"])
            if not security:
                who = "anybody"
            elif "worker" in security[0]:
                who = "worker"
            else:
                who = operation["x-role"]
            expected[operation["operationId"]] = (f"{method.upper()} {path}", who)
    assert expected
    names = set(expected)
    documented = {}
    for cells in table_rows(read("security.md")):
        name = code(cells[0])
        if len(cells) == 5 and name and "." in name[0]:
            where = cells[1].replace("`", "").replace("*}", "}")
            documented[name[0]] = (where, cells[2])
    assert set(documented) == names
    assert documented == expected


def operation_scopes():
    """What operations.def says, which OpenAPI has no place for."""
    text = (ROOT / "src" / "api" / "operations.def").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("OPERATION("):
            cells = [cell.strip() for cell in line.split(",")]
            scope = cells[7]
            name = cells[0].removeprefix("OPERATION(").strip('"')
            yield name, "–" if scope == "0" else (
                "`" + scope.removeprefix("SCOPE_").lower().replace("_", ":") + "`"
            )


def test_scopes_in_the_table_are_those_of_the_operations():
    documented = {
        code(cells[0])[0]: cells[3]
        for cells in table_rows(read("security.md"))
        if len(cells) == 5 and code(cells[0]) and "." in code(cells[0])[0]
    }
    assert documented == dict(operation_scopes())


def reasons():
    text = (ROOT / "src" / "model" / "reason.c").read_text(encoding="utf-8")
    found = re.findall(
        r'R\(REASON_\w+, "(\w+)", (true|false), (true|false), \\\s*"([^"]*)"\)', text
    )
    assert len(found) > 20
    return found


def test_every_reason_is_documented_as_it_is():
    documented = {code(cells[0])[0]: cells[1:] for cells in table_rows(read("workloads.md"))
                  if len(cells) == 4 and code(cells[0])}
    for word, retried, blamed, sentence in reasons():
        assert documented.get(word) == [
            sentence,
            "yes" if retried == "true" else "",
            "yes" if blamed == "true" else "",
        ]


@pytest.mark.parametrize("table", ["workload_state_names", "lease_state_names"])
def test_every_state_is_documented(table):
    text = (ROOT / "src" / "model" / "names.c").read_text(encoding="utf-8")
    match = re.search(rf"{table}\[\] = {{(.*?)}}", text, re.DOTALL)
    names = re.findall(r'"(\w+)"', match[1])
    assert names
    words = set(re.findall(r"\w+", read("workloads.md")))
    assert set(names) <= words


def test_every_metric_is_documented():
    text = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "src" / "control").rglob("*.c")
        if path.parent.name != "test"
    )
    names = set(re.findall(r'(?:head|number)\((?:conn|out), "(\w+)"', text))
    names |= set(re.findall(r'by_label\(conn, "(\w+)"', text))
    names |= set(re.findall(r'metrics_count(?:_label)?\([^"]*"(\w+)"', text))
    assert len(names) > 15
    document = read("operations.md")
    assert sorted(name for name in names if f"tes_{name}" not in document) == []


def anchors(path):
    """What GitHub makes of headings."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        yield kept.replace(" ", "-")


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name) if name else path
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_exists(path):
    """`src/…`, `scripts/…` and the like in running text."""
    named = re.findall(
        r"`((?:src|scripts|deploy|docs|tests|tools|migrations|examples)/[\w./-]*[\w/])`",
        path.read_text(encoding="utf-8"),
    )
    assert [name for name in named if not (ROOT / name).exists()] == []
