"""NodeDoctor: the actor that examines one node for `jobs.verbs.doctor`."""

import dataclasses
from collections.abc import Sequence

import ray

from jobs.spec.job import Job
from jobs.spec.upload_paths import enter_working_directory, resolve_upload_paths, upload_root
from pipeline.doctor.collective_check import check_collective
from pipeline.doctor.doctor import Plan, examine_machine, read_plan
from pipeline.doctor.findings import Finding, examine
from pipeline.doctor.machine_checks import versions
from pipeline.doctor.step_check import check_step
from pipeline.doctor.storage_check import missing_probes, remove_probe, write_probe
from pipeline.processes.machine import free_ports

CONFIG_VERBS = ("doctor", "fit", "validate", "test", "predict")  # verbs whose options are the configuration of a run


class NodeDoctor:
    """Examines the node that it runs on.

    Args:
        job: The job; relative paths start from its folder of submit, as on train workers.
    """

    def __init__(self, job: Job) -> None:
        self._spec = job.spec
        enter_working_directory(job)

    def plan(self, args: Sequence[str]) -> tuple[Plan, list[Finding]]:
        """Read a command line; return what to examine, and a finding about its configuration, if it has one."""
        words = resolve_upload_paths(args, upload_root())
        plan, findings = read_plan(words[1:] if words[0] in CONFIG_VERBS else data_of(words))
        whole = dataclasses.replace(
            plan,
            storage_path=plan.storage_path or self._spec.storage_path,
            gpu=bool(self._spec.gpus_per_worker),
            wandb_mode=self._spec.wandb_mode,
        )
        return whole, findings

    def look(self, plan: Plan, token: str, name: str) -> tuple[dict[str, str], list[Finding]]:
        """Examine the node, and write a probe with its name to the storage; return its versions and the findings."""

        def write() -> str:
            write_probe(str(plan.storage_path), token, name)
            return str(plan.storage_path)

        return versions(), [*examine_machine(plan), examine("storage written", write)]

    def missing(self, storage_path: str, token: str, of: Sequence[str]) -> list[str]:
        """The names of the nodes whose probes this node does not see in the storage."""
        return missing_probes(storage_path, token, of)

    def leave(self, storage_path: str, token: str, name: str) -> None:
        """Remove this node's probe from the storage."""
        remove_probe(storage_path, token, name)

    def address(self) -> str:
        """The address of this node, with a free port, for the process group."""
        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        return f"{host}:{free_ports(host, 1)[0]}"

    def take_part(self, rank: int, world_size: int, address: str, backend: str, limit_s: float) -> Finding:
        """Run one rank of the collective."""
        return examine("collective", lambda: check_collective(rank, world_size, address, backend, limit_s))

    def step(self, plan: Plan) -> Finding:
        """Run two real steps."""
        accelerator = "gpu" if self._spec.gpus_per_worker else "cpu"
        return examine("one real step", lambda: check_step(plan.config, plan.step_limit_s, accelerator))


def data_of(words: Sequence[str]) -> list[str]:
    """The `--data` option and its value of a verb without a configuration, such as `evaluate`; empty if it has none."""
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--data" and (equals or place + 1 < len(words)):
            return [name, value if equals else words[place + 1]]
    return []
