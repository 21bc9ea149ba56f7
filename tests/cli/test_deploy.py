"""`deploy`: what it writes is what Docker, Compose, Kubernetes and KEDA take, and the image does what it says."""

import hashlib
import io
import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import httpx
import jsonschema
import kubernetes_validate
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from cliffracer import embedded
from cliffracer.cli.image import dockerfile, installing
from cliffracer.cli.yaml import yaml as written_as_yaml
from cliffracer.errors import SetupError
from tests.cli.terminal import PATIENCE, cliffracer, written
from tests.support import compose
from tests.support.images import Image, build
from tests.support.nats import NatsServer, free_port
from tests.support.tools import dockerfile_faults, keda_faults

SERVICE = """
    from cliffracer import App, Model, Repository

    app = App("farm-yard", version="3.1.0")

    class Animal(Model):
        name: str

    @app.get("/animals")
    async def names(*, animals: Repository[Animal]) -> list[str]:
        return [animal.name for animal in await animals.find()]

    @app.on("animal.*")
    async def look(name: str) -> None: ...
"""
GUARDED = """
    from cliffracer import Accounts, App, requires
    app = App("guarded", calls=["payments.charge"])
    app.use(Accounts())

    @app.get("/orders")
    @requires("orders:read")
    async def orders() -> int: return 1
"""


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("farm"), app=SERVICE)


@pytest.fixture
def guarded(tmp_path: Path) -> Path:
    (tmp_path / ".env").write_text("AUTH_SECRET_KEY=only-for-development-0123456789abcdef\nNATS_PASSWORD=hunter2\nNATS_USER=guarded\n")
    (tmp_path / "cliffracer.toml").write_text('namespace = "shop"\ndrain = "30s"\nhttp_port = 1234\n')
    return written(tmp_path, app=GUARDED)


def _kubernetes(folder: Path, *more: str, **env: str) -> dict[str, dict]:
    """Return the manifests by kind, each of which fits its schema, strictly."""
    found = {one["kind"]: one for one in yaml.safe_load_all(cliffracer("deploy", "k8s", *more, cwd=folder, **env).out) if one}
    for kind, one in found.items():
        if kind != "ScaledObject":
            kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    return found


def test_kubernetes_accepts_the_manifests(farm):
    """Each document fits the schema of its kind, strictly; secrets are referred to only."""
    found = _kubernetes(farm)
    assert list(found) == ["Deployment", "PodDisruptionBudget", "NetworkPolicy", "Service", "HorizontalPodAutoscaler"]
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"], "proxies still send for a while"
    assert pod["terminationGracePeriodSeconds"] >= 5 + 15 + 10
    assert "replicas" not in found["Deployment"]["spec"], "applied again, it would undo what the autoscaler did"
    assert found["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == 2
    assert [variable["name"] for variable in pod["containers"][0]["env"] if "valueFrom" in variable] == ["NATS_URL", "DATABASE_URL"]


def test_keda_accepts_what_scales_by_waiting_events(farm):
    """The object fits KEDA's own definition and has nothing beside, and names the stream and each consumer."""
    scaled = _kubernetes(farm, "--keda")["ScaledObject"]
    assert keda_faults(scaled) == ""
    assert set(scaled["spec"]) == {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "triggers"}
    assert "minReplicaCount must be integer" in keda_faults({**scaled, "spec": {**scaled["spec"], "minReplicaCount": "two"}})
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "nats-jetstream"
    assert (trigger["metadata"]["stream"], trigger["metadata"]["consumer"]) == ("EVENTS", "farm-yard-look")
    assert {"natsServerMonitoringEndpoint", "account", "lagThreshold"} <= set(trigger["metadata"])


def test_settings_secrets_and_calls_go_along(guarded):
    """What was given is a ConfigMap, what is secret a reference, what it calls an annotation; nothing of this machine is in it."""
    text = cliffracer("deploy", "k8s", cwd=guarded, NATS_URL="nats://127.0.0.1:1").out
    found = _kubernetes(guarded, NATS_URL="nats://127.0.0.1:1")
    assert found["ConfigMap"]["data"] == {"CLIFFRACER_NAMESPACE": "shop", "CLIFFRACER_DRAIN": "30", "CLIFFRACER_NATS_USER": "guarded"}
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 45
    assert pod["containers"][0]["envFrom"] == [{"configMapRef": {"name": "guarded"}}]
    secret = {v["name"] for v in pod["containers"][0]["env"] if "valueFrom" in v}
    assert secret == {"NATS_URL", "DATABASE_URL", "NATS_PASSWORD", "AUTH_SECRET_KEY"}
    assert found["NetworkPolicy"]["metadata"]["annotations"] == {"cliffracer/calls": "payments.charge"}
    assert [rule["ports"][0]["port"] for rule in found["NetworkPolicy"]["spec"]["egress"]] == [53, 4222, 5432]
    assert not any(word in text for word in ("hunter2", "only-for-development", "127.0.0.1", "1234"))
    listed = json.loads(cliffracer("deploy", "k8s", "--json", cwd=guarded).out)
    assert [one["kind"] for one in listed["items"]] == list(found)


def test_any_image_runs_the_same(farm):
    """Ours has the program as its entry point, that of `deploy docker` has none: neither is asked, nor where migrations are applied."""
    text = cliffracer("deploy", "compose", cwd=farm).out
    service = yaml.safe_load(text)["services"]["farm-yard"]
    assert (service["entrypoint"], service["command"]) == ([], ["cliffracer", "run"])
    assert "docker compose run --rm farm-yard cliffracer db apply && " in text
    container = _kubernetes(farm)["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    assert (container["command"], container["args"]) == (["cliffracer"], ["run"])


def test_several_databases_are_one_secret(farm):
    """Where rows are spread, the secret holds all addresses, and the network lets out to every port of them."""
    found = _kubernetes(farm, DATABASE_URLS="postgresql://u:hunter2@db1,db2:7001/a,postgresql://u@db3:7003/b")
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert [variable["name"] for variable in pod["containers"][0]["env"] if "valueFrom" in variable] == ["NATS_URL", "DATABASE_URLS"]
    assert [port["port"] for port in found["NetworkPolicy"]["spec"]["egress"][-1]["ports"]] == [5432, 7001, 7003]
    assert "hunter2" not in str(found)


def test_compose_accepts_its_file(farm, guarded):
    """It fits the schema of the Compose Specification; PostgreSQL is there for who uses it, JetStream survives a power cut."""
    found = yaml.safe_load(cliffracer("deploy", "compose", cwd=farm).out)
    compose.check(found)
    assert set(found["services"]) == {"farm-yard", "nats", "postgres"}
    assert "jetstream { store_dir: /data, sync_interval: always }" in found["configs"]["nats"]["content"]
    assert 'ping_interval: "10s"' in found["configs"]["nats"]["content"]
    assert found["services"]["farm-yard"]["init"] is True, "what a handler's program leaves behind is reaped"
    assert found["services"]["postgres"]["healthcheck"]["test"][:4] == ["CMD", "pg_isready", "-h", "127.0.0.1"], "not while it is made"
    more = json.loads(cliffracer("deploy", "compose", "--json", cwd=guarded).out)
    compose.check(more)
    given = more["services"]["guarded"]["environment"]
    assert (given["AUTH_SECRET_KEY"], given["CLIFFRACER_NAMESPACE"]) == ("${AUTH_SECRET_KEY:?set it in .env}", "shop")
    with pytest.raises(jsonschema.ValidationError):
        compose.check({**found, "services": {"nats": {"imag": "nats:2"}}})


def test_the_compose_file_takes_any_password_of_the_database(farm):
    """It is a value of its own for PostgreSQL and for the app, not a part of a URL, where @ or / would end it."""
    found = yaml.safe_load(cliffracer("deploy", "compose", cwd=farm).out)["services"]
    asked = [name for one in found.values() for name, value in one.get("environment", {}).items() if "POSTGRES_PASSWORD" in value]
    assert asked == ["PGPASSWORD", "POSTGRES_PASSWORD"]
    assert found["farm-yard"]["environment"]["PGPASSWORD"] == found["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert found["farm-yard"]["environment"]["PGPASSWORD"].startswith("${POSTGRES_PASSWORD:?")


def test_the_nats_of_the_compose_file_syncs_what_it_acknowledges(farm, tmp_path):
    """A real server takes the configuration and says that it syncs always: an acknowledged event survives a power cut."""
    found = yaml.safe_load(cliffracer("deploy", "compose", cwd=farm).out)
    port = free_port()
    config = found["configs"]["nats"]["content"].replace("/data", str(tmp_path / "data"))
    with NatsServer(f"{config}\nhttp: 127.0.0.1:{port}"):
        told = httpx.get(f"http://127.0.0.1:{port}/jsz?config=true").json()["config"]
    assert told["sync_always"] is True
    assert told["store_dir"].startswith(str(tmp_path))


PROJECTS = {
    "nothing": ({}, 'pip install --no-cache-dir "cliffracer==0.1.0"'),
    "requirements": ({"requirements.txt": "rich\n"}, '-r requirements.txt "cliffracer==0.1.0"'),
    "ours in requirements": ({"requirements.txt": "rich\ncliffracer>=0.1\n"}, "install --no-cache-dir -r requirements.txt"),
    "hashes": ({"requirements.txt": "cliffracer==0.1.0 --hash=sha256:00\n"}, "--require-hashes -r requirements.txt"),
    "pyproject": (
        {"pyproject.toml": '[project]\nname = "x"\ndependencies = ["rich", "cliffracer"]\n'},
        "install --no-cache-dir -r requirements.txt",
    ),
    "pyproject of tools": ({"pyproject.toml": "[tool.ruff]\n"}, 'pip install --no-cache-dir "cliffracer==0.1.0"'),
}


@pytest.mark.parametrize("project", PROJECTS)
def test_the_image_installs_what_the_project_asks_for(project, farm, tmp_path):
    """Its requirements, by hash if they have one, else what pyproject.toml depends on; Docker's linter finds no fault."""
    files, expected = PROJECTS[project]
    for name, text in {**files, "app.py": (farm / "app.py").read_text()}.items():
        (tmp_path / name).write_text(text)
    done = cliffracer("deploy", "docker", "app:app", "-o", "Dockerfile", cwd=tmp_path)
    assert done.err.startswith("written Dockerfile\nwritten .dockerignore")
    text = (tmp_path / "Dockerfile").read_text()
    (install,) = [line for line in text.splitlines() if "pip install" in line]
    assert install.endswith(expected)
    assert text.endswith('CMD ["cliffracer", "run", "app:app"]\n')
    assert dockerfile_faults(tmp_path / "Dockerfile") == ""


@pytest.mark.parametrize("project", PROJECTS)
def test_a_private_index_is_told_by_secrets_of_the_build(project, tmp_path):
    """Where pip installs, and nowhere else, its configuration and its passwords can be files that no layer of the image has."""
    for name, text in PROJECTS[project][0].items():
        (tmp_path / name).write_text(text)
    steps = DockerfileParser(fileobj=io.BytesIO(dockerfile(["run"], installing(tmp_path, [])).encode())).structure
    given = [step["value"] for step in steps if "--mount" in step["value"] and step["instruction"] == "RUN"]
    assert given == [step["value"] for step in steps if "pip install" in step["value"]]
    (step,) = given
    mounts = [dict(part.split("=") for part in flag.split(",")) for flag in re.findall(r"--mount=(\S+)", step)]
    assert mounts == [
        {"type": "secret", "id": "pip", "target": "/etc/pip.conf"},
        {"type": "secret", "id": "netrc", "target": "/root/.netrc"},
    ]  # not required: without them it is a build as any other


@pytest.mark.parametrize(("version", "tag"), [("1.2.0+build.5", "1.2.0-build.5"), ("2 été", "2-t-"), ("", "latest")])
def test_the_image_has_a_tag_that_docker_takes(version, tag, tmp_path):
    """A version may have characters that a tag may not."""
    folder = written(tmp_path, app=f"from cliffracer import App\napp = App('shop', version='{version}')\n")
    assert json.loads(cliffracer("deploy", "compose", "--json", cwd=folder).out)["services"]["shop"]["image"] == f"shop:{tag}"


def test_requirements_of_other_files_are_in_the_image_too(tmp_path, farm):
    """What requirements.txt names is copied beside it, and may name us; what is no package is refused, since it would not be there."""
    shutil.copy(farm / "app.py", tmp_path / "app.py")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements.txt").write_text("-r requirements/base.txt\n--constraint=limits.txt\n-r https://example.org/more.txt\n")
    (tmp_path / "requirements" / "base.txt").write_text("cliffracer\n-c ../limits.txt\n")
    (tmp_path / "limits.txt").write_text("rich<99\ncliffracer<99\n")
    text = cliffracer("deploy", "docker", cwd=tmp_path).out
    copied = ["requirements.txt ./", "requirements/base.txt requirements/base.txt", "limits.txt ./"]
    assert [line for line in text.splitlines() if line.startswith("COPY ") and ".txt" in line] == [f"COPY {one}" for one in copied]
    assert "-r requirements.txt\n" in text
    (tmp_path / "requirements" / "base.txt").write_text("rich\n")
    assert '-r requirements.txt "cliffracer==0.1.0"\n' in cliffracer("deploy", "docker", cwd=tmp_path).out, "a constraint installs nothing"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-e .", "but the image installs"),
        ("./barn", "but the image installs"),
        ("-e file:.#egg=x", "but the image installs"),
        ("../barn", "which is not in the image"),
        ("barn @ file:///srv/barn-1.0-py3-none-any.whl", "which is not in the image"),
        ("file:///srv/barn", "which is not in the image"),
        ("wheels/barn-1.0-py3-none-any.whl", "which is not in the image"),
        ("--find-links=wheels", "which is not in the image"),
        ("-r ../more.txt", "which is outside of this folder"),
        ("-c /etc/limits.txt", "which is outside of this folder"),
        ("-r linked.txt", "which is outside of this folder"),
        ("-r file:///srv/more.txt", "which is outside of this folder"),
        ("-r none.txt", "which is not there"),
    ],
)
def test_what_the_image_cannot_have_is_told_before_it_is_built(line, reason, tmp_path):
    """A file or package that is elsewhere on this machine, also in a file that requirements.txt names, in whatever way."""
    folder = tmp_path / "farm"
    for name in ("wheels/barn-1.0-py3-none-any.whl", "barn/pyproject.toml", "../more.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "linked.txt").symlink_to("../more.txt")
    (folder / "requirements.txt").write_text("rich\n-r base.txt\n")
    (folder / "base.txt").write_text(f"cliffracer  # ../ours\n{line}  # theirs\n")
    with pytest.raises(SetupError, match=re.escape(f"base.txt has {line}, {reason}")):
        installing(folder, [])


@pytest.mark.parametrize(
    "line",
    [
        "-r https://example.org/more.txt",
        "barn @ https://example.org/barn.zip",
        "git+https://example.org/barn",
        "rich[jupyter]>=1; os_name == 'posix'",
        "--extra-index-url 'https://example.org/simple'",
        "--index-url ${PRIVATE_INDEX}",
        "barn @ https://${TOKEN}@example.org/barn.zip",
    ],
)
def test_what_pip_gets_from_elsewhere_is_fine(line, tmp_path):
    """Also what is named by an address, or by a variable that is set where the image is built."""
    (tmp_path / "requirements.txt").write_text(f"cliffracer\n{line}\n")
    assert "-r requirements.txt" in installing(tmp_path, [])


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig"])
def test_requirements_may_be_in_any_encoding_that_pip_reads(encoding, tmp_path):
    """As an editor, or PowerShell, has written them: what they name is found, and no command fails of a remark."""
    (tmp_path / "requirements.txt").write_text("-r base.txt  # für alle\n", encoding=encoding)
    (tmp_path / "base.txt").write_text("./barn  # für uns\n", encoding=encoding)
    with pytest.raises(SetupError, match=r"^base\.txt has \./barn, but the image installs"):
        installing(tmp_path, [])
    (tmp_path / "base.txt").write_text("cliffracer  # für uns\n", encoding=encoding)
    assert "COPY requirements.txt ./\nCOPY base.txt ./\n" in installing(tmp_path, [])


def test_what_the_image_cannot_have_is_told_by_the_commands(tmp_path, farm):
    """`deploy docker` refuses to write it, and `doctor` sees it beside its Dockerfile; `pyproject.toml` may name such a package, too.

    A Dockerfile of the user's own may have what ours has not.
    """
    shutil.copy(farm / "app.py", tmp_path / "app.py")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["barn @ file:///srv/barn"]\n')
    done = cliffracer("deploy", "docker", cwd=tmp_path)
    told = "pyproject.toml has barn @ file:///srv/barn, which is not in the image when it installs packages."
    assert (done.code, done.err.startswith(f"Error: {told}")) == (1, True)
    (tmp_path / "Dockerfile").write_text(dockerfile(["run"]))
    assert f"look  image      {told}" in cliffracer("doctor", cwd=tmp_path, COLUMNS="300").out
    (tmp_path / "Dockerfile").write_text("FROM python\nCOPY . /srv\nRUN pip install /srv\n")
    assert "image  " not in cliffracer("doctor", cwd=tmp_path, COLUMNS="300").out


def test_the_image_imports_from_src_what_is_installed_from_there_here(farm, tmp_path):
    """A package below src is on the path here because the project is installed to be edited; in the image, that folder is."""
    package = tmp_path / "src" / "barn"
    package.mkdir(parents=True)
    shutil.copy(farm / "app.py", package / "app.py")
    (package / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text('[tool.cliffracer]\napp = "barn.app:app"\n')
    text = cliffracer("deploy", "docker", cwd=tmp_path, PYTHONPATH="src").out
    assert text.endswith('CMD ["cliffracer", "run", "barn.app:app"]\n')
    assert " PYTHONPATH=/app/src " in text
    assert "PYTHONPATH" not in cliffracer("deploy", "docker", "src/barn/app.py:app", cwd=tmp_path).out, "found by its path"
    assert "PYTHONPATH" not in cliffracer("deploy", "docker", "app:app", cwd=farm).out


def test_the_image_has_the_extras_that_the_app_needs(guarded):
    """Accounts need their extra where they run; a .dockerignore that is missing is told, since .env would be in the image."""
    done = cliffracer("deploy", "docker", cwd=guarded, OIDC_ISSUER="https://issuer.example")
    assert '"cliffracer[accounts,oidc]==0.1.0"' in done.out
    assert "there is no .dockerignore here, so .env" in done.err
    for rules, told in (("node_modules\n", True), ("node_modules\n**/.env*\n", False), ("*\n!app.py\n", False)):
        (guarded / ".dockerignore").write_text(rules)
        done = cliffracer("deploy", "docker", cwd=guarded)
        assert (".dockerignore says nothing of .env" in done.err) == told, rules
    (guarded / "requirements.txt").write_text("rich==1 --hash=sha256:00\n")
    done = cliffracer("deploy", "docker", cwd=guarded)
    assert (done.code, "has hashes, but no cliffracer" in done.err) == (1, True)


def _built(folder: Path, wheel: Path, dockerfile: str) -> Image:
    """Carry out a Dockerfile beside its context, without a network: what we depend on is lent afterwards."""
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent), "PIP_NO_DEPS": "1"}
    return build(dockerfile, folder, folder.parent / "root", **offline)


def test_what_has_hashes_is_installed_by_them(wheel, farm, tmp_path):
    """The steps for locked requirements work: pip is told to check each file, and has nothing to add."""
    context = tmp_path / "farm"
    shutil.copytree(farm, context)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (context / "requirements.txt").write_text(f"cliffracer==0.1.0 --hash=sha256:{digest}\n")
    image = _built(context, wheel, cliffracer("deploy", "docker", "app:app", cwd=context).out)
    assert image.program(image.command)[1:] == ["run", "app:app"]


@pytest.fixture(scope="module")
def image(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Give the image of a new service, made by the steps of its Dockerfile from the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("image")
    cliffracer("new", "hello", cwd=folder)
    context = folder / "hello"
    (context / "jobs").mkdir()
    for place in (context, context / "jobs"):
        (place / ".env").write_text("AUTH_SECRET_KEY=nobody-may-see-this-0123456789abcdef\n")
    (context / "app.py").chmod(0o600)
    made = _built(context, wheel, (context / "Dockerfile").read_text())
    made.lend()
    return made


def test_secrets_and_tests_stay_out_of_the_image(image):
    """What the service needs is there, and what is only of use here is not."""
    assert {path.name for path in (image.root / "app").iterdir()} == {
        "app.py",
        "pyproject.toml",
        "README.md",
        "Dockerfile",
        ".gitignore",
        ".dockerignore",
    }


def test_the_user_of_the_image_may_read_the_service(image):
    """Files that only their owner may read, as under a strict umask, are root's in the image, whose service runs as somebody else."""
    assert (image.root / "app" / "app.py").stat().st_mode & 0o444 == 0o444


def test_what_python_brings_is_compiled_once(image):
    """The standard library has its bytecode in the image: the service's user could not write it, and would compile it at each start."""
    assert [path.name.partition(".")[0] for path in (image.root / "usr/local/lib").rglob("*.pyc")] == ["base"]


def test_the_image_serves_says_how_it_is_and_stops(image):
    """Its command runs in production, its health check finds it well, and at SIGTERM it ends in good order."""
    port = str(free_port())
    with embedded.servers(nats=True, database=False) as servers:
        place = {"HTTP_HOST": "127.0.0.1", "HTTP_PORT": port, "NATS_URL": servers.nats_url, "CLIFFRACER_NAMESPACE": f"image{port}"}
        environment = {**image.environment, **place}
        with (image.root / "log").open("wb") as log:
            run = subprocess.Popen(image.program(image.command), cwd=image.folder, env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + PATIENCE
            healthy = 1
            while healthy and time.monotonic() < until and run.poll() is None:
                healthy = subprocess.run(
                    image.program(image.health), cwd=image.folder, env=environment, capture_output=True, check=False
                ).returncode
            assert healthy == 0, (image.root / "log").read_text()
            assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
            run.send_signal(getattr(signal, image.last["STOPSIGNAL"]))
            assert run.wait(PATIENCE) == 0, (image.root / "log").read_text()
        finally:
            run.kill()
            run.wait()


@pytest.mark.parametrize(
    "value",
    [
        {"a": "yes", "b": "1", "c": "null", "d": "a: b", "e": "#x", "f": "", "g": "x\ny", "h": "é"},
        {"list": [1, 2.5, True, None, "on"], "empty": [], "none": None, "nested": [{"a": [{"b": 1}]}, {"c": {}}]},
        {"1": "2", "true": False, "@x": "*"},
    ],
)
def test_what_is_written_as_yaml_is_read_as_what_it_was(value):
    """Texts that look like something else stay texts."""
    assert yaml.safe_load("\n".join(written_as_yaml(value))) == value
