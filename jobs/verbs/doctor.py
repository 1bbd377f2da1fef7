"""`doctor` on a cluster: examines every node that can take workers, before a worker group is started.

An actor on each node examines the node, then reads from the storage what the other nodes wrote; then all take part in a
collective, and one runs two real steps. The actors reserve no CPUs, so that a busy cluster can be examined too.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.spec.job import Job
from jobs.verbs.doctor_actor import NodeDoctor
from pipeline.cli.errors import explain
from pipeline.doctor.doctor import Plan
from pipeline.doctor.findings import Finding, combine, compare_versions, print_findings
from pipeline.doctor.machine_checks import versions
from pipeline.doctor.storage_check import new_token
from pipeline.processes.outcome import ProcessOutcome

NODE_S = 300.0  # time limit of a node's examination: starting a process, importing torch, reads from a slow disk
MORE_S = 60.0  # added to the time limits of the single checks


def check_nodes(job: Job, args: Sequence[str], variables: Mapping[str, str]) -> ProcessOutcome:
    """Examine the cluster, and print the table of findings.

    Args:
        job: The job, with its spec.
        args: The command line from the verb on: `doctor`, or the command that will run.
        variables: Environment variables of the workers, in addition to the spec's `env`.

    Returns:
        The outcome; failed, with exit status 1, if a check failed.

    Raises:
        TimeoutError: the first node does not answer.
    """
    cluster = _Cluster(job, variables)
    plan, findings = cluster.plan(args)
    of_nodes, of_versions = cluster.look(plan)
    findings = [compare_versions(of_versions), *findings, *combine(of_nodes), cluster.storage(plan)]
    findings += [cluster.collective(plan), cluster.step(plan)]
    print_findings(f"doctor on {len(cluster.nodes)} node{'s' if len(cluster.nodes) > 1 else ''}", findings)
    sys.stdout.flush()
    failed = [finding.check for finding in findings if finding.status == "failed"]
    if failed:
        return ProcessOutcome("failed", f"{', '.join(failed)}: see the table above; nothing was started", 1)
    return ProcessOutcome("finished")


class _Cluster:
    """The nodes that can take workers, each with its NodeDoctor actor."""

    def __init__(self, job: Job, variables: Mapping[str, str]) -> None:
        spec = self._spec = job.spec
        found: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        need = {"CPU": spec.cpus_per_worker, "GPU": spec.gpus_per_worker}
        able = [node for node in found if all(node["Resources"].get(name, 0) >= least for name, least in need.items())]
        # Two ranks of nccl on one node need a GPU each.
        self._gpus = min(2, int(able[0]["Resources"].get("GPU", 0))) if len(able) == 1 else 1
        gpus = self._gpus * spec.gpus_per_worker
        actor: Any = ray.remote(num_cpus=0, num_gpus=gpus, max_concurrency=2)(NodeDoctor)  # type: ignore[call-overload]
        environment = {"env_vars": {**variables, **spec.env}}
        self._doctors = {}
        for node in sorted(able, key=lambda each: (each["NodeManagerAddress"], each["NodeID"])):
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:6]})"
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            self._doctors[name] = actor.options(scheduling_strategy=here, runtime_env=environment).remote(job)
        self.nodes = list(self._doctors)
        self._token = new_token()

    def plan(self, args: Sequence[str]) -> tuple[Plan, list[Finding]]:
        """Read on the first node what to examine; return the plan, and a finding about the configuration."""
        answer = _gather({self.nodes[0]: self._doctors[self.nodes[0]].plan.remote(list(args))}, NODE_S + MORE_S)
        plan = answer[self.nodes[0]]
        if isinstance(plan, str):
            raise TimeoutError(f"node {self.nodes[0]}: {plan}")
        read: tuple[Plan, list[Finding]] = plan
        return read

    def look(self, plan: Plan) -> tuple[dict[str, list[Finding]], dict[str, dict[str, str]]]:
        """Examine every node; return findings and versions by node. Each node also writes a probe to the storage."""
        numbers = {node: str(number) for number, node in enumerate(self.nodes)}
        answers = self._ask(lambda node, doctor: doctor.look.remote(plan, self._token, numbers[node]))
        of_versions = {node: answer[0] for node, answer in answers.items() if not isinstance(answer, str)}
        found = {node: answer[1] for node, answer in answers.items() if not isinstance(answer, str)}
        checks = [finding.check for finding in next(iter(found.values()), [])] or ["nodes"]
        for node, answer in answers.items():
            if isinstance(answer, str):
                found[node] = [Finding(check, "failed", answer) for check in checks]
        return found, of_versions or {"the driver": versions()}

    def storage(self, plan: Plan) -> Finding:
        """Check that every node reads the probes that all nodes wrote to the storage; removes the probes."""
        path, numbers = str(plan.storage_path), [str(number) for number in range(len(self.nodes))]
        answers = self._ask(lambda _, doctor: doctor.missing.remote(path, self._token, numbers))
        findings = {}
        for node, answer in answers.items():
            if isinstance(answer, str):
                findings[node] = [Finding("storage", "failed", answer)]
            elif answer:
                of = ", ".join(self.nodes[int(number)] for number in answer)
                text = f"storage_path={path} does not show what {of} wrote: give a place that all nodes share"
                findings[node] = [Finding("storage", "failed", text)]
            else:
                findings[node] = [Finding("storage", "passed", f"{path}: what each node wrote, every node reads")]
        self._ask(lambda node, doctor: doctor.leave.remote(path, self._token, str(self.nodes.index(node))))
        return combine(findings)[0]

    def collective(self, plan: Plan) -> Finding:
        """Run a collective with one rank on each node; two ranks if there is only one node."""
        nodes = self.nodes if len(self.nodes) > 1 else self.nodes * 2
        backend = "nccl" if self._spec.gpus_per_worker else "gloo"
        if backend == "nccl" and len(self.nodes) == 1 and self._gpus < len(nodes):
            return Finding("collective", "skipped", "one node with one GPU: there is nothing to connect")
        address = _gather({"": self._doctors[nodes[0]].address.remote()}, MORE_S)[""]
        words = (len(nodes), address, backend, plan.collective_limit_s)
        answers = _gather(
            {(node, rank): self._doctors[node].take_part.remote(rank, *words) for rank, node in enumerate(nodes)},
            plan.collective_limit_s + MORE_S,
        )
        findings = {}
        for (node, _), answer in answers.items():
            each = Finding("collective", "failed", answer) if isinstance(answer, str) else answer
            if node not in findings or each.status == "failed":
                findings[node] = [each]
        combined = combine(findings)[0]
        return combined if combined.status == "failed" else next(iter(findings.values()))[0]

    def step(self, plan: Plan) -> Finding:
        """Run two real steps on the first node."""
        answer = _gather({"": self._doctors[self.nodes[0]].step.remote(plan)}, plan.step_limit_s + MORE_S)[""]
        return answer if isinstance(answer, Finding) else Finding("one real step", "failed", answer)

    def _ask(self, question: Any) -> dict[str, Any]:
        return _gather({node: question(node, doctor) for node, doctor in self._doctors.items()}, NODE_S)


def _gather(asked: Mapping[Any, Any], limit_s: float) -> dict[Any, Any]:
    """Wait for results; return each, or a sentence if it failed or took too long."""
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=limit_s)
    answers: dict[Any, Any] = {}
    for who, reference in asked.items():
        try:
            answers[who] = ray.get(reference, timeout=0)
        except ray.exceptions.GetTimeoutError:
            answers[who] = f"no answer within {limit_s:g} s"
        except ray.exceptions.RayTaskError as error:
            answers[who] = explain(error.cause) if isinstance(error.cause, Exception) else "it failed"
        except ray.exceptions.RayError as error:
            answers[who] = next(iter(str(error).splitlines()), type(error).__name__)
    return answers
