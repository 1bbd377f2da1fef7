"""The templates for real clusters, which are not run here: they parse, hold to the schemas, and name real commands."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import ray.autoscaler
import yaml
from jsonschema import Draft7Validator

from jobs.cli import make_parser, parse
from jobs.service.service_options import ServiceOptions
from pipeline.cli.arguments import call_from_command_line
from tests.conftest import REPOSITORY

TEMPLATES = REPOSITORY / "jobs" / "templates"
JOBS = ["aws_cluster.yaml", "kuberay_rayjob.yaml", "slurm.sh"]
SERVICE = "kuberay_service.yaml"


def test_there_are_these_and_each_says_first_that_it_was_not_run() -> None:
    assert sorted(path.name for path in TEMPLATES.iterdir()) == sorted([*JOBS, SERVICE])
    for name in (*JOBS, SERVICE):
        lines = [line for line in (TEMPLATES / name).read_text().splitlines() if not line.startswith("#!")]
        assert lines[0].startswith("# NOT RUN HERE: "), name


@pytest.mark.parametrize("name", JOBS)
def test_the_commands_in_them_are_ours(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m jobs submit WORDS -- fit --config FILE`: options that there are, files that there are."""
    monkeypatch.chdir(REPOSITORY)
    text = (TEMPLATES / name).read_text().replace("\\\n", " ").replace('\\"', '"')
    flat = re.sub(r"\s*\n#?\s*", " ", text)
    [command] = re.findall(r"python -m jobs submit (.*? -- .*?\.yaml)", flat)
    own, fit = map(str.strip, command.split(" -- "))
    options = parse(make_parser(), ["submit", *shlex.split(own)], has_command=True)["submit"]
    assert (options.num_workers, options.check) == (32, True)
    assert fit.startswith("fit --config ")
    assert (REPOSITORY / fit.split()[-1]).is_file()


def test_the_aws_cluster_holds_to_the_schema_of_ray() -> None:
    content = yaml.safe_load((TEMPLATES / "aws_cluster.yaml").read_text())
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(content)] == []
    assert content["provider"]["type"] == "aws"
    assert content["head_node_type"] in content["available_node_types"]
    head, gpus = content["available_node_types"]["head"], content["available_node_types"]["gpus"]
    assert "InstanceMarketOptions" not in head["node_config"], "the head is not spot"
    assert gpus["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    starts = [*content["head_start_ray_commands"], *content["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token ray start" in line for line in starts if "ray start" in line)
    assert "--dashboard-host=127.0.0.1" in content["head_start_ray_commands"][1]


def test_the_rayjob_has_what_kuberay_requires() -> None:
    """As its resource definition says: version, kind, required fields of the groups, resources of the containers."""
    content: dict[str, Any] = yaml.safe_load((TEMPLATES / "kuberay_rayjob.yaml").read_text())
    assert (content["apiVersion"], content["kind"]) == ("ray.io/v1", "RayJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", content["metadata"]["name"])
    known = {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit", "rayClusterSpec"}
    assert content["spec"].keys() <= known
    cluster = content["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52, 0), "the first with tokens"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert {"rayStartParams", "template"} <= group.keys()
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        assert {"name", "image", "resources"} <= container.keys()
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    [worker] = cluster["workerGroupSpecs"]
    assert {"groupName", "replicas", "minReplicas", "maxReplicas"} <= worker.keys()
    spec = yaml.safe_load((REPOSITORY / "jobs/configs/gpu_4x8.yaml").read_text())
    limits = worker["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert worker["replicas"] * int(limits["nvidia.com/gpu"]) == spec["num_workers"] * spec["gpus_per_worker"]
    assert worker["replicas"] * int(limits["cpu"]) == spec["num_workers"] * spec["cpus_per_worker"]


def test_the_service_on_kuberay_takes_the_gpus_that_there_are_and_its_port_is_reached() -> None:
    job, service = yaml.safe_load_all((TEMPLATES / SERVICE).read_text())
    words = shlex.split(job["spec"]["entrypoint"].removeprefix("python -m jobs serve "))
    options = call_from_command_line(ServiceOptions, words, "python -m jobs serve")
    assert (options.address, options.host, options.without_token) == ("auto", "0.0.0.0", False)
    cluster = job["spec"]["rayClusterSpec"]
    assert (job["kind"], cluster["authOptions"]) == ("RayJob", {"mode": "token"})
    [worker] = cluster["workerGroupSpecs"]
    head = cluster["headGroupSpec"]["template"]
    limits = worker["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert worker["replicas"] * int(limits["nvidia.com/gpu"]) == options.replicas * options.gpus_per_replica
    assert worker["replicas"] * int(limits["cpu"]) == options.replicas * options.cpus_per_replica
    for pod in (head["spec"], worker["template"]["spec"]):
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        paths = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert "/models" in paths
        assert str(options.model).startswith("/models/")
    assert service["spec"]["selector"] == head["metadata"]["labels"]
    ports = {port["containerPort"] for port in head["spec"]["containers"][0]["ports"]}
    assert service["spec"]["ports"] == [{"port": options.port, "targetPort": options.port}]
    assert options.port in ports


def test_the_slurm_script_is_bash() -> None:
    path = TEMPLATES / "slurm.sh"
    checked = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert os.access(path, os.X_OK)
    text = path.read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", text, flags=re.MULTILINE))
    assert {"nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time"} <= options.keys()
    assert options["ntasks-per-node"] == "1", "a raylet a node"
    assert int(options["nodes"]) * int(options["gpus-per-node"]) == 32
    assert text.index("RAY_AUTH_MODE=token") < text.index("ray start")
    assert text.index("umask 077") < text.index('> "$RAY_AUTH_TOKEN_PATH"')
