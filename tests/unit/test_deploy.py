"""The production files agree with the code and with each other. Nothing here starts a container."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from api.settings import Settings, load_settings
from infra.clickhouse.engine import EngineSettings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "deploy"
yaml: Any = importlib.import_module("yaml")  # without types, whether or not its stubs are installed

COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
CHART = FOLDER / "helm"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
TEMPLATES = {path.name: path.read_text() for path in sorted((CHART / "templates").iterdir())}
#: Service → its settings' section of addresses.
OURS = {"api": "api", "search": "search_http", "streams": "streams_http", "learner": "learner_http"}
#: The same for those that not everybody runs.
OPTIONAL = {"inbox": "inbox_http"}


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The secrets of a stack, made by the script."""
    directory = tmp_path_factory.mktemp("deploy") / "secrets"
    make_secrets(directory)
    return directory


def make_secrets(directory: Path) -> None:
    """Run the script."""
    subprocess.run([FOLDER / "make_secrets.sh", directory], check=True, capture_output=True, timeout=30)


def variables(service: str, secrets: Path) -> dict[str, str]:
    """The service's environment, with the secrets where they lie here."""
    environment: dict[str, str] = SERVICES[service]["environment"]
    return {name: value.replace("/run/secrets", str(secrets)) for name, value in environment.items()}


@pytest.mark.parametrize("service", OURS | OPTIONAL)
def test_a_service_gets_settings_that_exist_and_its_secrets(service: str, secrets: Path) -> None:
    settings = load_settings(FOLDER, variables(service, secrets)).settings
    assert settings.kafka.bootstrap == "kafka:9092"
    store, tenant = settings.clickhouse, settings.tenants["default"]
    for file, value in (
        ("clickhouse_password", store.password),
        ("analyst_password", store.analyst_password),
        ("tenant_key", tenant.key),
    ):
        given = file in SERVICES[service].get("secrets", ())
        assert value == ((secrets / file).read_text() if given else "")


@pytest.mark.parametrize("service", OURS | OPTIONAL)
def test_a_service_runs_a_process_and_is_asked_where_it_listens(service: str) -> None:
    described = SERVICES[service]
    module = described["command"][0]
    assert callable(importlib.import_module(module).main)
    port = getattr(Settings(), (OURS | OPTIONAL)[service]).port
    assert described["environment"]["HEALTH_URL"] == f"http://127.0.0.1:{port}/healthz"
    learns = described["build"].get("args") == {"EXTRA": "learn"}
    assert learns == (service in ("search", "learner"))


def test_no_secret_is_written_down() -> None:
    text = (FOLDER / "compose.yaml").read_text() + (FOLDER / "Dockerfile").read_text()
    for name, value in re.findall(r"(\w*(?:PASSWORD|KEY)\w*)[:=] *(\S+)", text):
        assert name.endswith("_FILE"), name
        assert value.startswith("/run/secrets/"), value
    settings = (FOLDER / "ratchet.toml").read_text()
    assert not re.search(r"^\s*(key|password|analyst_password)\s*=", settings, flags=re.MULTILINE)


def test_what_services_refer_to_is_there() -> None:
    volumes, secrets = set(COMPOSE["volumes"]), set(COMPOSE["secrets"])
    for described in SERVICES.values():
        assert set(described.get("depends_on", {})) <= set(SERVICES)
        for secret in described.get("secrets", ()):
            assert (secret if isinstance(secret, str) else secret["source"]) in secrets
        for volume in described.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (FOLDER / source).exists() if source.startswith(".") else source in volumes


def test_learner_and_search_share_their_artifacts() -> None:
    assert "learning:/ratchet/var" in SERVICES["search"]["volumes"]
    assert "learning:/ratchet/var" in SERVICES["learner"]["volumes"]


def test_prometheus_scrapes_every_process() -> None:
    config = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets == {
        f"ratchet-{service}": [f"{service}:{getattr(Settings(), section).port}"]
        for service, section in OURS.items()
    }


def test_what_is_optional_has_a_profile_and_its_addresses_are_ready_to_be_taken() -> None:
    prometheus = (FOLDER / "prometheus" / "prometheus.yml").read_text()
    prepared = "\n".join(re.findall(r"^  # ((?:- |  ).*)$", prometheus, flags=re.MULTILINE))
    jobs = {job["job_name"]: job["static_configs"] for job in yaml.safe_load(prepared)}
    for service, section in OPTIONAL.items():
        assert SERVICES[service]["profiles"] == [service]
        address = f"{service}:{getattr(Settings(), section).port}"
        assert jobs.pop(f"ratchet-{service}") == [{"targets": [address]}]
        assert f'# "ratchet-{service}": ["http://{address}"]' in (FOLDER / "compose.yaml").read_text()
    assert not jobs


def test_the_inbox_reads_that_of_a_tenant_of_the_settings(secrets: Path) -> None:
    settings = load_settings(FOLDER, variables("inbox", secrets)).settings
    assert settings.inbox.tenants == ("default",)
    assert set(VALUES["inbox"]["tenants"]) <= set(VALUES["tenants"])


def test_the_image_holds_the_wheel_and_its_user_is_not_root() -> None:
    text = (FOLDER / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(re.findall(r"^COPY (\w+) \1$", text, flags=re.MULTILINE)) == set(packages)
    extras = set(project["project"]["optional-dependencies"])
    assert set(re.findall(r"--build-arg EXTRA=(\w+)", text)) <= extras
    assert re.search(r"^USER (?!root|0)\w+$", text, flags=re.MULTILINE)
    assert "HEALTHCHECK" in text


def test_secrets_are_made_once(tmp_path: Path) -> None:
    make_secrets(tmp_path / "secrets")
    before = {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}
    make_secrets(tmp_path / "secrets")
    assert {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()} == before
    made = [before[name] for name in ("tenant_key", "clickhouse_password", "analyst_password")]
    assert len(set(made)) == 3
    assert all(len(secret) >= 32 for secret in made)
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0


def test_clickhouse_learns_hashes_only(secrets: Path) -> None:
    text = (secrets / "clickhouse_users.xml").read_text()
    users = ElementTree.fromstring(text).find("users")
    assert users is not None
    assert [user.tag for user in users] == ["default", "ratchet", "analyst"]
    for user, file in (("ratchet", "clickhouse_password"), ("analyst", "analyst_password")):
        password = (secrets / file).read_bytes()
        assert users.findtext(f"{user}/password_sha256_hex") == hashlib.sha256(password).hexdigest()
        assert password.decode() not in text


#: Run with a settings file or with '' and databases: which of their tables it may read.
READS = """
import chdb, msgspec, sys
config, *databases = sys.argv[1:]
connection = chdb.connect("tables" + (f"?config-file={config}" if config else ""))
read = []
for name in databases:
    if not config:
        connection.query(f"CREATE DATABASE {name}")
        connection.query(f"CREATE TABLE {name}.t ENGINE = MergeTree ORDER BY () AS SELECT 1 AS a")
    try:
        connection.query(f"SELECT a FROM {name}.t")
        read.append(name)
    except RuntimeError as error:
        assert "grant SELECT" in str(error), error
print(msgspec.json.encode(read).decode())
"""


def test_analysts_are_granted_the_views_of_the_living_and_of_kept_stores(
    secrets: Path, tmp_path: Path
) -> None:
    """The account of a server, played by the embedded engine's only one: what its grants let it read."""
    grants = ElementTree.parse(secrets / "clickhouse_users.xml").find("users/analyst/grants")
    assert grants is not None
    (tmp_path / "users.xml").write_text(
        "<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default>"
        "<password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>"
        f"{ElementTree.tostring(grants, encoding='unicode')}</default></users></clickhouse>"
    )
    config = tmp_path / "server.xml"  # a config.xml would be read unasked
    config.write_text(f"<clickhouse><users_config>{tmp_path / 'users.xml'}</users_config></clickhouse>")
    databases = (
        "ratchet",
        "ratchet_store",
        "ratchet_next",
        "ratchet_store_early",
        "ratchet_early",
        "ratchets",
    )

    def readable(config_file: str) -> Any:
        command = [sys.executable, "-c", READS, config_file, *databases]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert readable("") == list(databases)
    assert readable(str(config)) == ["ratchet", "ratchet_early"]
    # the same that the engine of a laptop lets analysts read
    engine = EngineSettings(path="x", writer_password="w", analyst_password="a")
    assert [name for name in databases if engine.analysts_read(name)] == readable(str(config))


def test_every_worker_of_compose_has_an_id_of_its_own() -> None:
    workers = [one for one in SERVICES.values() if one.get("command", [""])[0] == "api.processes.streams"]
    assert len(workers) > 1
    ids = [
        one["environment"].get("RATCHET_STREAMS__INSTANCE", Settings().streams.instance) for one in workers
    ]
    assert len(set(ids)) == len(ids)
    assert len({volume for one in workers for volume in one["volumes"] if "/var" in volume}) == len(ids)


def test_alerts_ask_every_process_that_compose_starts() -> None:
    described = SERVICES["alerts"]
    settings = load_settings(FOLDER, described["environment"] | {"HEALTH_URL": ""}).settings
    assert settings.alerts.targets == {
        f"ratchet-{service}": (f"http://{service}:{getattr(Settings(), section).port}",)
        for service, section in OURS.items()
    }
    assert callable(importlib.import_module(described["command"][0]).main)
    assert described["environment"]["HEALTH_URL"].endswith(f":{Settings().alerts_http.port}/healthz")


def test_the_charts_settings_exist_and_its_values_are_described(tmp_path: Path) -> None:
    jsonschema.validate(VALUES, json.loads((CHART / "values.schema.json").read_text()))
    for section, entries in VALUES["settings"].items():
        for key, value in entries.items():
            variable = {f"RATCHET_{section}__{key}".upper(): str(value)}
            settings = load_settings(tmp_path, variable).settings
            assert getattr(getattr(settings, section), key) == value
    for name, tenant in VALUES["tenants"].items():
        for key, value in tenant.items():
            assert load_settings(tmp_path, {f"RATCHET_TENANTS__{name}__{key}".upper(): value})
    refused = {**VALUES, "tenants": {"default": {"key": "written down"}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(refused, json.loads((CHART / "values.schema.json").read_text()))


def test_the_charts_templates_use_values_and_parts_that_exist() -> None:
    text = "\n".join(TEMPLATES.values())
    for path in re.findall(r"\.Values\.([\w.]+)", text):
        value: Any = VALUES
        for name in path.split("."):
            assert name in value, f".Values.{path} is not in values.yaml"
            value = value[name]
    defined = set(re.findall(r'define "([\w.]+)"', text))
    assert set(re.findall(r'include "([\w.]+)"', text)) == defined
    for name, template in TEMPLATES.items():
        opened = len(re.findall(r"\{\{-? *(?:if|with|range|define)\b", template))
        assert opened == len(re.findall(r"\{\{-? *end\b", template)), name
    parts = re.findall(r'"part" "(\w+)" "module" "([\w.]+)" "port" (\d+)', text)
    assert {part for part, _, _ in parts} == set(OURS | OPTIONAL)
    for part, module, port in parts:
        assert module == SERVICES[part]["command"][0]
        assert int(port) == getattr(Settings(), (OURS | OPTIONAL)[part]).port
    assert (CHART / "files" / "rules.yml").resolve() == FOLDER / "prometheus" / "rules.yml"


def test_the_chart_renders_where_helm_is_installed() -> None:
    """Without helm on the path only what the tests above read is checked; docs/operations.md says so."""
    helm = shutil.which("helm")
    if helm is None:
        assert "where helm is on the path" in (ROOT / "docs" / "operations.md").read_text()
        return
    command = [helm, "template", "r", str(CHART), "--kube-version", "1.31.0"]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode != 0
    assert "secrets.existingSecret" in refused.stderr
    enabled = (
        "monitoring.serviceMonitor.enabled=true,monitoring.prometheusRule.enabled=true,inbox.enabled=true"
    )
    usual = subprocess.run(
        [*command, "--set", "secrets.existingSecret=mine"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "r-inbox" not in usual.stdout
    done = subprocess.run(
        [*command, "--set", f"secrets.existingSecret=mine,{enabled},streams.replicas=4"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    made = [one for one in yaml.safe_load_all(done.stdout) if one]
    kinds = {(one["kind"], one["metadata"]["name"]) for one in made}
    assert {("Deployment", "r-api"), ("StatefulSet", "r-streams"), ("PodDisruptionBudget", "r-api")} <= kinds
    stateful = {one["metadata"]["name"]: one["spec"] for one in made if one["kind"] == "StatefulSet"}
    assert {name: spec["replicas"] for name, spec in stateful.items()} == {"r-streams": 4, "r-inbox": 1}
    for part in ("streams", "inbox"):
        (container,) = stateful[f"r-{part}"]["template"]["spec"]["containers"]
        instance = {
            "name": f"RATCHET_{part.upper()}__INSTANCE",
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
        }
        assert instance in container["env"]
    assert {"name": "RATCHET_INBOX__TENANTS", "value": '["default"]'} in container["env"]
    # of a Secret of which it needs nothing it gets nothing
    volumes = {one["name"]: one for one in stateful["r-inbox"]["template"]["spec"]["volumes"]}
    assert volumes["secrets"] == {"name": "secrets", "emptyDir": {}}
    (settings,) = (one for one in made if one["kind"] == "ConfigMap")
    assert tomllib.loads(settings["data"]["ratchet.toml"])["kafka"]["bootstrap"] == "kafka:9092"
    (rule,) = (one for one in made if one["kind"] == "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((FOLDER / "prometheus" / "rules.yml").read_text())
    for one in made:
        if one["kind"] in ("Deployment", "StatefulSet"):
            pod = one["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            for container in pod["containers"]:
                assert {"livenessProbe", "readinessProbe", "startupProbe"} <= set(container)
                assert container["resources"]["limits"]["memory"]
                assert container["securityContext"]["readOnlyRootFilesystem"] is True
