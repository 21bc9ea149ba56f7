"""Servers are shared by all who use a project folder, started by the first and stopped after the last."""

import threading
from pathlib import Path

from cliffracer import embedded
from cliffracer.database.clones import Clones
from tests.embedded.project import Project, eventually, greeting, select


def test_nats_answers_with_jetstream(project: Project) -> None:
    """The address leads to a server that has JetStream and wants a password."""
    with embedded.servers(folder=project.folder) as urls:
        assert '"jetstream":true' in greeting(urls.nats_url)
        assert '"auth_required":true' in greeting(urls.nats_url)
        assert urls.database_url is None


def test_postgres_starts_only_when_asked_for(project: Project) -> None:
    """A use of NATS alone starts no PostgreSQL, a later one adds it."""
    with embedded.servers(folder=project.folder) as first:
        assert not project.runs("postgres")
        with embedded.servers(database=True, folder=project.folder) as second:
            assert second.nats_url == first.nats_url
            assert select(second.database_url, "show server_version_num") >= "180000"
        eventually(lambda: not project.runs("postgres"))
        assert greeting(first.nats_url)


def test_last_leaver_stops_them(project: Project) -> None:
    """Servers live as long as any of two processes uses them, and end soon after."""
    first, second = project.user("nats", "database"), project.user("nats", "database")
    assert first.urls() == second.urls()
    first.leave()
    nats_url, database_url = embedded.status(project.folder)[0].url, embedded.status(project.folder)[1].url
    assert greeting(nats_url)
    assert select(database_url) == 1
    second.leave()
    eventually(lambda: not project.runs("nats") and not project.runs("postgres"))
    assert not greeting(nats_url)


def test_restart_within_grace_finds_the_same_server(project: Project, monkeypatch) -> None:
    """Whoever comes back within the grace uses the server that still runs."""
    monkeypatch.setenv("CLIFFRACER_DEV_GRACE", "30")
    with embedded.servers(folder=project.folder):
        server = project.server("nats")
    with embedded.servers(folder=project.folder):
        assert project.server("nats") == server


def test_five_processes_at_once_share_one_pair(project: Project) -> None:
    """Processes that all come first get the same servers, and leaving ends them."""
    users = [project.user("nats", "database") for _ in range(5)]
    assert len({user.urls() for user in users}) == 1
    for user in users:
        user.leave()
    eventually(lambda: not project.runs("nats") and not project.runs("postgres"))


def test_threads_of_one_process_share_them(project: Project) -> None:
    """Concurrent uses in one process are independent: one that ends takes nothing from the others."""
    found: set[str | None] = set()

    def use() -> None:
        with embedded.servers(folder=project.folder) as urls:
            found.add(urls.nats_url)

    with embedded.servers(folder=project.folder) as urls:
        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {urls.nats_url}
        assert greeting(urls.nats_url)


def test_two_projects_have_servers_of_their_own(project: Project, tmp_path: Path) -> None:
    """Two folders side by side share nothing."""
    with embedded.servers(folder=project.folder) as one, embedded.servers(folder=tmp_path) as other:
        assert one.nats_url != other.nats_url
        assert greeting(one.nats_url)
        assert greeting(other.nats_url)
    embedded.stop(tmp_path)


def test_new_cluster_has_databases_for_the_first_tests(project: Project) -> None:
    """The first test of the first run gets a database that came with the cluster, and waits for no copy."""
    with embedded.servers(database=True, folder=project.folder) as urls:
        spare = {select(urls.database_url, f"select oid from pg_database where datname = 'cliffracer_test_kept_{each}'") for each in (1, 2)}
        with Clones(urls.database_url, template="template1", prefix="cliffracer_test", keep=2) as clones:
            assert {select(clones.take(), "select oid from pg_database where datname = current_database()") for _ in range(2)} == spare
