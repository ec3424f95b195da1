"""The files under deploy/: well formed, naming only what exists, and as strict as they say."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compose_spec
import kubernetes_validate
import pytest
import yaml

from xairouter import __version__
from xairouter.observe import Metrics
from xairouter.settings import Settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "xairouter"
KNOWN = {f"XAIROUTER_{name.upper()}" for name in Settings.model_fields}


def _metric_names() -> set[str]:
    names: set[str] = set()
    for line in Metrics().text().decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            names |= {name, f"{name}_bucket"} if kind == "histogram" else {name}
    return names


def test_every_setting_named_anywhere_exists():
    for path in [*DEPLOY.rglob("*"), *(ROOT / "cluster").glob("*.py")]:
        if path.is_file() and path.suffix != ".pyc":
            found = set(re.findall(r"XAIROUTER_[A-Z_]+[A-Z]", path.read_text()))
            assert found <= KNOWN, (path, found - KNOWN)


def test_dashboard_and_alerts_ask_for_metrics_that_exist():
    known = _metric_names()
    dashboard = json.loads((DEPLOY / "grafana" / "xairouter.json").read_text())
    asked = [one["expr"] for panel in dashboard["panels"] for one in panel["targets"]]
    alerts = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    asked += [rule["expr"] for rule in rules]
    assert len(asked) > 20
    for expression in asked:
        named = set(re.findall(r"xairouter_[a-z_]+", expression))
        assert named <= known, (expression, named - known)
        assert expression.count("(") == expression.count(")")
        assert expression.count("{") == expression.count("}")
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
    assert len({rule["alert"] for rule in rules}) == len(rules)


def test_the_dashboard_is_one_that_grafana_loads():
    """The fields that Grafana's importer needs, and panels that lie beside each other."""
    board = json.loads((DEPLOY / "grafana" / "xairouter.json").read_text())
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= set(board)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"


def test_the_image_runs_without_rights_and_installs_by_hash():
    text = (DEPLOY / "Containerfile").read_text()
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert len(stages) == 2
    last = stages[-1]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert not re.search(r"^(RUN|COPY|ADD).*", last.split("USER 10001")[1], re.MULTILINE)
    assert "--require-hashes" in stages[0]
    assert "pip" not in last
    assert not re.search(r"\b(ADD|curl|wget)\b", text)
    for source in re.findall(r"^COPY (?!--from)(\S+)", text, re.MULTILINE):
        assert (ROOT / source).exists(), source
    for copied in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in copied.split():
            assert (ROOT / source).exists(), source


def test_every_stage_is_built_from_the_one_base_that_the_docs_say_how_to_pin():
    text = (DEPLOY / "Containerfile").read_text()
    [(name, base)] = re.findall(r"^ARG (\w+)=(\S+)\n(?=FROM )", text, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${" + name + "}"] * 2
    pinned = f"--build-arg {name}={base}@sha256:<digest"
    assert pinned in text
    assert f"{pinned}>" in (ROOT / "docs/how-to/deploy.md").read_text()
    # No digest of ours: it would be that of an image which nobody here has examined.
    assert "@" not in base


def test_hadolint_finds_no_fault_in_the_image():
    command = str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run(
        [command, str(DEPLOY / "Containerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def _steps(stage: str) -> Iterator[str]:
    """The commands of a stage's RUN lines."""
    for found in re.findall(r"^RUN ((?:.*\\\n)*.*)$", stage, re.MULTILINE):
        yield found.replace("\\\n", " ")


@pytest.mark.slow
@pytest.mark.parametrize("requirements", ["runtime.txt", "runtime-otel.txt"])
def test_the_images_own_steps_install_a_router_that_runs(tmp_path: Path, requirements: str):
    """What a builder would do in the first stage, with this Python and below a folder of ours; then
    the command as the second stage has it."""
    stage = re.split(r"^FROM ", (DEPLOY / "Containerfile").read_text(), flags=re.MULTILINE)[1]
    source, target = tmp_path / "src", tmp_path / "xairouter"
    source.mkdir()
    for copied in re.findall(r"^COPY (.+) (\S+)$", stage, re.MULTILINE):
        for name in copied[0].split():
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / copied[1])
            else:
                shutil.copy(ROOT / name, source / copied[1])
    environment = {**os.environ, "REQUIREMENTS": requirements}
    for step in _steps(stage):
        step = step.replace("/opt/xairouter", str(target)).replace(
            "python -m venv", f"{sys.executable} -m venv"
        )
        done = subprocess.run(
            ["sh", "-euc", step],
            cwd=source,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    shown = subprocess.run(
        [str(target / "bin" / "xairouter"), "--version"], capture_output=True, text=True, check=True
    )
    assert __version__ in shown.stdout
    traced = subprocess.run(
        [str(target / "bin" / "python"), "-c", "import opentelemetry.sdk"],
        capture_output=True,
        check=False,
    )
    assert (traced.returncode == 0) == (requirements == "runtime-otel.txt")
    assert not (target / "bin" / "pip").exists()


def test_the_compose_file_is_one_by_its_specification():
    text = (DEPLOY / "compose.yaml").read_text()
    compose_spec.PyCompose.from_yaml(text).validate()
    with pytest.raises(ValueError, match="cap_dropped"):
        compose_spec.PyCompose.from_yaml(text.replace("cap_drop", "cap_dropped")).validate()


def test_compose_shows_nothing_but_the_router_and_that_on_loopback():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert set(compose["services"]) == {"router", "postgres", "valkey"}
    for name, service in compose["services"].items():
        assert name == "router" or "ports" not in service
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in compose["volumes"]
    router = compose["services"]["router"]
    assert router["ports"] == ["127.0.0.1:8080:8080"]
    assert router["cap_drop"] == ["ALL"]
    assert router["read_only"] is True
    text = (DEPLOY / "compose.yaml").read_text()
    assert not re.search(r"password: \w", text, re.IGNORECASE)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_unit_is_well_formed_and_hardened(tmp_path: Path):
    text = (DEPLOY / "systemd" / "xairouter.service").read_text()
    unit = tmp_path / "xairouter.service"
    unit.write_text(text.replace("/opt/xairouter/bin/xairouter serve", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert "xairouter.service" not in done.stderr, done.stderr
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-500:]


def _value(path: str, scope: dict[str, Any]) -> Any:
    found: Any = scope
    for name in path.strip(".").split("."):
        found = found[name]
    return found


def _rendered(text: str, scope: dict[str, Any]) -> str:
    """The chart's templates use three forms only: a value, a value as YAML, and an indent. What this
    reads, Helm reads the same; ``helm lint`` below says so where Helm is."""

    def fill(match: re.Match[str]) -> str:
        words = match.group(1)
        indented = re.fullmatch(r"toYaml (\S+) \| nindent (\d+)", words)
        if indented:
            space = " " * int(indented.group(2))
            lines = yaml.safe_dump(_value(indented.group(1), scope)).splitlines()
            return "\n" + "\n".join(space + line for line in lines)
        assert re.fullmatch(r"\.[\w.]+", words), words
        return str(_value(words, scope))

    return re.sub(r"\{\{ (.+?) \}\}", fill, re.sub(r"\s*\{\{- ", "{{ ", text))


def _manifests() -> list[dict[str, Any]]:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    scope = {"Values": values, "Release": {"Name": "llm"}}
    return [
        document
        for path in sorted((CHART / "templates").glob("*.yaml"))
        for document in yaml.safe_load_all(_rendered(path.read_text(), scope))
    ]


def test_the_chart_makes_what_it_says():
    made = {(one["kind"], one["metadata"]["name"]): one for one in _manifests()}
    assert set(made) == {
        ("StatefulSet", "llm"),
        ("Service", "llm"),
        ("Service", "llm-instances"),
        ("ConfigMap", "llm"),
        ("PodDisruptionBudget", "llm"),
    }
    for one in made.values():
        assert one["apiVersion"] in ("v1", "apps/v1", "policy/v1")
    work = made["StatefulSet", "llm"]["spec"]
    assert work["serviceName"] == "llm-instances"
    assert work["selector"]["matchLabels"].items() <= work["template"]["metadata"]["labels"].items()
    pod = work["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert container["resources"]["limits"]["memory"] == "1Gi"
    settings = made["ConfigMap", "llm"]["data"]
    assert all(isinstance(value, str) for value in settings.values()), settings
    notice = float(settings["XAIROUTER_DRAIN_NOTICE_SECONDS"])
    start = container["startupProbe"]
    assert start["httpGet"] == container["livenessProbe"]["httpGet"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 300
    probe = container["readinessProbe"]
    assert notice > probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    drain = float(settings["XAIROUTER_DRAIN_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > notice + drain
    mounts = {one["name"] for one in container["volumeMounts"]}
    claims = {one["metadata"]["name"] for one in work["volumeClaimTemplates"]}
    assert mounts == claims | {one["name"] for one in pod["volumes"]}


@pytest.mark.parametrize("version", ["1.28", "1.37"])
def test_kubernetes_takes_what_the_chart_makes(version: str):
    """By the schemas of Kubernetes's own versions, unknown fields refused."""
    for one in _manifests():
        kubernetes_validate.validate(one, version, strict=True)


def test_helm_itself_finds_no_fault():
    if shutil.which("helm") is None:
        pytest.skip("helm is not here")
    done = subprocess.run(["helm", "lint", str(CHART)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
