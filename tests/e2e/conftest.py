"""Fixtures of the end-to-end tests: the programs that ship, a real container engine, both stores.

Beside what tests/api takes: TES_ENGINE_SOCKET, the container engine's socket (/var/run/docker.sock).
Stores, tesd and the checks after each test are those of tests/api.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

# By its path: pytest knows only one module of the name `conftest` at a time.
_spec = importlib.util.spec_from_file_location("api_conftest", HERE.parent / "api" / "conftest.py")
assert _spec and _spec.loader
api = importlib.util.module_from_spec(_spec)
sys.modules["api_conftest"] = api
_spec.loader.exec_module(api)

from harness import Tesd  # noqa: E402
from stage import SOCKET, TIMES, Engine, Stage  # noqa: E402

store_kind = api.store_kind
tesd_with = api.tesd_with

DEADLINE_S = 120
LONG_DEADLINE_S = 900


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes more than a minute; `scripts/test --long` runs it")
    config.addinivalue_line("markers", "one_store: the same on every store")
    config.addinivalue_line("markers", "settings(**kw): of tesd; section__key='value'")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What has nothing to do with the store is tested on one."""
    needless = [i for i in items if i.get_closest_marker("one_store") and "postgresql" in i.name]
    if needless:
        config.hook.pytest_deselected(items=needless)
        items[:] = [i for i in items if i not in needless]
    # The main job, by the command line, is in every run; what breaks machines for a while belongs to `--long`.
    for item in items:
        if HERE in item.path.parents and not (item.path.name == "test_customer.py" and "postgresql" not in item.name):
            item.add_marker(pytest.mark.long)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    stage = getattr(item, "_stage", None)
    if report.failed and stage:
        logs = [(f"tesd ({stage.tesd.directory})", stage.tesd.log())]
        logs += [(f"worker ({w.directory})", w.log()) for w in stage.workers]
        for name, text in logs:
            report.sections.append((f"log of {name}", "\n".join(text.splitlines()[-100:])))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    limit_s = LONG_DEADLINE_S if item.get_closest_marker("long") else DEADLINE_S

    def over(*unused: object) -> None:
        raise AssertionError(f"{item.name} has not ended within {limit_s} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(limit_s)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def engine() -> Engine:
    engine = Engine()
    if not engine.answers():
        pytest.skip(f"no container engine answers at {SOCKET}: set TES_ENGINE_SOCKET")
    engine.image_make()
    return engine


@pytest.fixture
def stage_with(
    request: pytest.FixtureRequest, tmp_path: Path, tesd_with: Callable[..., Tesd], engine: Engine
) -> Iterator[Callable[..., Stage]]:
    """stage_with(network__grace="2s", …): a network of the test's own, without a worker."""
    made: list[Stage] = []

    def make(*, engine: Engine = engine, **settings: str) -> Stage:
        settings = {k.replace(".", "__"): v for k, v in TIMES.items()} | settings
        made.append(Stage(tesd_with(**settings).start(), tmp_path, engine))
        request.node._stage = made[-1]  # noqa: SLF001
        return made[-1]

    yield make
    for stage in made:
        stage.close()


@pytest.fixture
def stage(request: pytest.FixtureRequest, stage_with: Callable[..., Stage]) -> Stage:
    mark = request.node.get_closest_marker("settings")
    return stage_with(**(mark.kwargs if mark else {}))


@pytest.fixture(scope="module")
def _common(tmp_path_factory: pytest.TempPathFactory, store_kind: str, engine: Engine) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("common")
    tesd = Tesd(directory, api.make_store(store_kind, directory), dict(TIMES))
    stage = None
    try:
        stage = Stage(tesd.start(), directory, engine)
        stage.worker()
        yield stage
        stage.workers[0].stop()
    finally:
        if stage:
            stage.close()
        api.finish(tesd)


@pytest.fixture
def common(request: pytest.FixtureRequest, _common: Stage) -> Stage:
    """One network with one worker, w1, for all tests of a file that leave it as it was."""
    request.node._stage = _common  # noqa: SLF001
    return _common
