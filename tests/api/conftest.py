"""Fixtures of the black-box tests: a tesd for each test on each store, customers with money, workers.

    TES_BUILD_DIR        where the programs are (anywhere below it); default: build/ in the repository
    TES_TEST_POSTGRES    URI of a PostgreSQL server where databases may be created; without it those tests are skipped

A test asks for `tesd` (parametrised by store) or `net` (a tesd with a customer and a provider); `tesd_with` makes one
with other settings.  After each test the audit must pass, tesd must end in order, and its log must hold no error.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import Client, Org, PostgresStore, SqliteStore, Store, Tesd, wait_for  # noqa: E402
from worker import Link, SimWorker  # noqa: E402

TEST_DEADLINE_S = 150
STORES = ["sqlite", "postgresql"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: takes more than a minute; `scripts/test --long` runs it")
    config.addinivalue_line("markers", "settings(**kw): of tesd; section__key='value'")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        for tesd in getattr(item, "_tesds", []):
            report.sections.append((f"tesd's log ({tesd.directory})", "\n".join(tesd.log().splitlines()[-200:])))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that hangs fails; those below fail long before, with a reason."""

    def over(*unused: object) -> None:
        raise AssertionError(f"{item.name} has not ended within {TEST_DEADLINE_S} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(TEST_DEADLINE_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make_store(kind: str, directory: Path) -> Store:
    if kind == "sqlite":
        return SqliteStore(directory)
    server = os.environ.get("TES_TEST_POSTGRES")
    if not server:
        pytest.skip("TES_TEST_POSTGRES is not set")
    return PostgresStore(server)


def finish(tesd: Tesd) -> None:
    """What must be true after every test."""
    try:
        running = tesd.process is not None
        if running and tesd.process and tesd.process.poll() is not None:
            raise AssertionError(f"tesd has ended by itself with {tesd.process.returncode}")
        if tesd.audited:
            tesd.audit()
        if running:
            status = tesd.stop()
            assert status == 0, f"tesd ended with {status}"
        if not tesd.errors_expected:
            assert not tesd.errors(), "tesd logged errors:\n" + "\n".join(tesd.errors()[:20])
    finally:
        if tesd.process:
            tesd.kill()
        tesd.store.drop()


@pytest.fixture(params=STORES, scope="session")
def store_kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tesd_with(request: pytest.FixtureRequest, tmp_path: Path, store_kind: str) -> Iterator[Callable[..., Tesd]]:
    """tesd_with(network__grace="2s", …): a tesd that is not started yet."""
    made: list[Tesd] = []
    request.node._tesds = made  # noqa: SLF001

    def make(**settings: str) -> Tesd:
        directory = tmp_path / f"tesd{len(made)}"
        directory.mkdir()
        named = {k.replace("__", ".", 1): v for k, v in settings.items()}
        made.append(Tesd(directory, make_store(store_kind, directory), named))
        return made[-1]

    yield make
    failures = []
    for tesd in made:
        try:
            finish(tesd)
        except AssertionError as error:
            failures.append(error)
    if failures:
        raise failures[0]


@pytest.fixture
def tesd(request: pytest.FixtureRequest, tesd_with: Callable[..., Tesd]) -> Tesd:
    """A running tesd; `@pytest.mark.settings(network__grace="2s")` changes its configuration."""
    mark = request.node.get_closest_marker("settings")
    return tesd_with(**(mark.kwargs if mark else {})).start()


class Network:
    """A tesd, a provider, a customer with money, and the workers that a test starts."""

    def __init__(self, tesd: Tesd) -> None:
        self.tesd = tesd
        self.provider: Org = tesd.org("provider")
        self.customer: Org = tesd.org("customer", credit="100000")
        self.workers: list[SimWorker] = []

    @property
    def api(self) -> Client:
        """The customer's owner."""
        return self.customer.client()

    def worker(self, script: dict[str, Any] | None = None, **inventory: Any) -> SimWorker:
        """A simulated worker that is online; `script` wins over what workloads ask for."""
        worker = SimWorker(self.tesd.url, **inventory)
        worker.script = script or {}
        self.workers.append(worker)
        worker.start(self.provider.join_token())
        self.wait_online(worker)
        return worker

    def link(self, **inventory: Any) -> Link:
        """A worker that does only what the test says; it is online."""
        from worker import inventory_of

        link = Link(self.tesd.url)
        link.join(self.provider.join_token(), inventory_of(**inventory))
        link.observe(inventory=inventory_of(**inventory))
        return link

    def wait_online(self, worker: Link, state: str = "online") -> dict[str, Any]:
        api = self.provider.client()

        def there() -> dict[str, Any] | None:
            value = api.get(f"/v1/workers/{worker.worker_id}").ok()
            return value if value["state"] == state else None

        value = wait_for(f"{worker.worker_id} is {state}", there)
        assert value
        return value

    def run(self, **spec: Any) -> dict[str, Any]:
        """Submits, waits for the end, and gives the workload."""
        return self.api.wait_end(self.api.submit(**spec)["id"])

    def close(self) -> None:
        for worker in self.workers:
            if worker.threads:
                worker.stop()


@pytest.fixture
def net(tesd: Tesd) -> Iterator[Network]:
    network = Network(tesd)
    yield network
    network.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, store_kind: str) -> Iterator[Network]:
    """One network for all tests of a file that only look, or are refused."""
    directory = tmp_path_factory.mktemp("guarded")
    # Workers that say nothing stay online, so that no duty writes either.
    settings = {"network.silent_after": "1h", "network.grace": "1h"}
    tesd = Tesd(directory, make_store(store_kind, directory), settings)
    try:
        yield Network(tesd.start())
    finally:
        finish(tesd)
