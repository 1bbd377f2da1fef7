"""`doctor` on a cluster: examines every node that can take workers, before a worker group is started.

An actor on each node examines the node, then reads from the storage what the other nodes wrote; then all take part in a
collective, with a rank on every GPU, and one runs two real steps. The actors reserve neither CPUs nor GPUs, so that a
busy cluster can be examined too; Ray lets a process that reserves no GPU see all of its node.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.spec.job import Job
from jobs.verbs.doctor_actor import NodeDoctor
from pipeline.cli.errors import explain
from pipeline.doctor.check_results import CheckResult, combine_results, compare_versions, print_check_results
from pipeline.doctor.doctor import MIN_RANKS, CheckPlan
from pipeline.doctor.machine_checks import installed_versions
from pipeline.doctor.storage_check import new_token
from pipeline.processes.outcome import ProcessOutcome

_NODE_TIMEOUT_S = (
    300.0  # time limit of a node's examination: starting a process, importing torch, reads from a slow disk
)
_MAX_CALLS = 32  # of an actor at a time: a rank of the collective is one
_OVERHEAD_S = 60.0  # added to the time limits of the single checks


def check_nodes(job: Job, args: Sequence[str], variables: Mapping[str, str]) -> ProcessOutcome:
    """Examine the cluster, and print the table of results.

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
    plan, results = cluster.read_plan(args)
    node_results, node_versions = cluster.examine_nodes(plan)
    results = [
        compare_versions(node_versions),
        *results,
        *combine_results(node_results),
        cluster.check_storage(plan),
    ]
    results += [cluster.check_collective(plan), cluster.check_steps(plan)]
    print_check_results(f"doctor on {len(cluster.nodes)} node{'s' if len(cluster.nodes) > 1 else ''}", results)
    sys.stdout.flush()
    failed = [result.check for result in results if result.status == "failed"]
    if failed:
        return ProcessOutcome("failed", f"{', '.join(failed)}: see the table above; nothing was started", 1)
    return ProcessOutcome("finished")


class _Cluster:
    """The nodes that can take workers, each with its NodeDoctor actor."""

    def __init__(self, job: Job, variables: Mapping[str, str]) -> None:
        spec = self._spec = job.spec
        alive: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        able = [
            node
            for node in alive
            if all(node["Resources"].get(name, 0) >= count for name, count in spec.worker_resources.items())
        ]
        actor: Any = ray.remote(num_cpus=0, max_concurrency=_MAX_CALLS)(NodeDoctor)  # type: ignore[call-overload]
        environment = {"env_vars": {**variables, **spec.env}}
        self._doctors = {}
        self._num_gpus: dict[str, int] = {}
        for node in sorted(able, key=lambda each: (each["NodeManagerAddress"], each["NodeID"])):
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:6]})"
            on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            self._num_gpus[name] = int(node["Resources"].get("GPU", 0))
            self._doctors[name] = actor.options(scheduling_strategy=on_node, runtime_env=environment).remote(job)
        self.nodes = list(self._doctors)
        self._token = new_token()

    def read_plan(self, args: Sequence[str]) -> tuple[CheckPlan, list[CheckResult]]:
        """Read on the first node what to examine; return the plan, and a result about the configuration."""
        answers = _gather(
            {self.nodes[0]: self._doctors[self.nodes[0]].read_plan.remote(list(args))}, _NODE_TIMEOUT_S + _OVERHEAD_S
        )
        plan = answers[self.nodes[0]]
        if isinstance(plan, str):
            raise TimeoutError(f"node {self.nodes[0]}: {plan}")
        answer: tuple[CheckPlan, list[CheckResult]] = plan
        return answer

    def examine_nodes(self, plan: CheckPlan) -> tuple[dict[str, list[CheckResult]], dict[str, dict[str, str]]]:
        """Examine every node; return results and versions by node. Each node also writes a probe to the storage."""
        writers = {node: str(number) for number, node in enumerate(self.nodes)}
        answers = self._call_nodes(lambda node, doctor: doctor.examine_node.remote(plan, self._token, writers[node]))
        node_versions = {node: answer[0] for node, answer in answers.items() if not isinstance(answer, str)}
        results = {node: answer[1] for node, answer in answers.items() if not isinstance(answer, str)}
        checks = [result.check for result in next(iter(results.values()), [])] or ["nodes"]
        for node, answer in answers.items():
            if isinstance(answer, str):
                results[node] = [CheckResult(check, "failed", answer) for check in checks]
        return results, node_versions or {"the driver": installed_versions()}

    def check_storage(self, plan: CheckPlan) -> CheckResult:
        """Check that every node reads the probes that all nodes wrote to the storage; removes the probes."""
        path, writers = str(plan.storage_path), [str(number) for number in range(len(self.nodes))]
        answers = self._call_nodes(lambda _, doctor: doctor.missing_probes.remote(path, self._token, writers))
        results = {}
        for node, answer in answers.items():
            if isinstance(answer, str):
                results[node] = [CheckResult("storage", "failed", answer)]
            elif answer:
                unseen = ", ".join(self.nodes[int(number)] for number in answer)
                text = f"storage_path={path} does not show what {unseen} wrote: give a place that all nodes share"
                results[node] = [CheckResult("storage", "failed", text)]
            else:
                results[node] = [CheckResult("storage", "passed", f"{path}: what each node wrote, every node reads")]
        self._call_nodes(
            lambda node, doctor: doctor.remove_probe.remote(path, self._token, str(self.nodes.index(node)))
        )
        return combine_results(results)[0]

    def check_collective(self, plan: CheckPlan) -> CheckResult:
        """Run a collective with a rank on every GPU; on processors with one on each node, two on a single node."""
        backend = "nccl" if self._spec.gpus_per_worker else "gloo"
        ranks = self._collective_ranks(backend)
        if len(ranks) < MIN_RANKS:
            return CheckResult("collective", "skipped", "one node with one GPU: there is nothing to connect")
        address = _gather({"": self._doctors[ranks[0][0]].address.remote()}, _OVERHEAD_S)[""]
        arguments = (len(ranks), address, backend, plan.collective_limit_s)
        answers = _gather(
            {
                (node, rank): self._doctors[node].run_collective.remote(rank, local_rank, *arguments)
                for rank, (node, local_rank) in enumerate(ranks)
            },
            plan.collective_limit_s + _OVERHEAD_S,
        )
        results = {}
        for (node, _), answer in answers.items():
            each = CheckResult("collective", "failed", answer) if isinstance(answer, str) else answer
            if node not in results or each.status == "failed":
                results[node] = [each]
        combined = combine_results(results)[0]
        return combined if combined.status == "failed" else next(iter(results.values()))[0]

    def _collective_ranks(self, backend: str) -> list[tuple[str, int]]:
        """Node and local rank of each rank of the collective."""
        least = MIN_RANKS if len(self.nodes) == 1 else 1
        counts = {node: self._num_gpus[node] if backend == "nccl" else least for node in self.nodes}
        return [(node, local_rank) for node, count in counts.items() for local_rank in range(count)]

    def check_steps(self, plan: CheckPlan) -> CheckResult:
        """Run two real steps on the first node."""
        result = _gather({"": self._doctors[self.nodes[0]].run_steps.remote(plan)}, plan.step_limit_s + _OVERHEAD_S)[""]
        return result if isinstance(result, CheckResult) else CheckResult("one real step", "failed", result)

    def _call_nodes(self, submit: Any) -> dict[str, Any]:
        return _gather({node: submit(node, doctor) for node, doctor in self._doctors.items()}, _NODE_TIMEOUT_S)


def _gather(references: Mapping[Any, Any], limit_s: float) -> dict[Any, Any]:
    """Wait for results; return each, or a sentence if it failed or took too long."""
    ray.wait(list(references.values()), num_returns=len(references), timeout=limit_s)
    results: dict[Any, Any] = {}
    for key, reference in references.items():
        try:
            results[key] = ray.get(reference, timeout=0)
        except ray.exceptions.GetTimeoutError:
            results[key] = f"no answer within {limit_s:g} s"
        except ray.exceptions.RayTaskError as error:
            results[key] = explain(error.cause) if isinstance(error.cause, Exception) else "it failed"
        except ray.exceptions.RayError as error:
            results[key] = next(iter(str(error).splitlines()), type(error).__name__)
    return results
