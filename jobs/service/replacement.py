"""`serve --replace`: another network for the service that runs on this machine."""

import dataclasses
from pathlib import Path
from typing import Any

from jobs.client.service_record import read_service, write_service
from jobs.service.classifier_replica import describe_network, open_served
from jobs.service.deployment import connect_service, deploy
from jobs.service.service_options import ReplicaOptions, ServiceOptions
from pipeline.cli.terminal import print_text

_NETWORK_FIELDS = ("checkpoint", "weights", "model", "linear", "allow", "num_clips", "decoder")


def replace_network(options: ServiceOptions) -> int:
    """Changes the network of the service, replica by replica, without losing a request.

    Args:
        options: the new network; other options must be those of the service, or left out.

    Raises:
        ValueError: no service runs here, other options were changed, or the network cannot be opened.
        RuntimeError: the replicas cannot open it; the old one is back.
    """
    service = read_service()
    if service is None or not service.is_alive():
        raise ValueError("replace=true: no service runs here; leave it out to start one")
    old = read_replica_options(service.replicas)
    for field in dataclasses.fields(ReplicaOptions):
        value = getattr(options, field.name)
        if field.name not in _NETWORK_FIELDS and value not in (field.default, getattr(old, field.name)):
            raise ValueError(f"{field.name}={value}: --replace changes the network alone; leave it out")
    new = dataclasses.replace(old, **{name: getattr(options, name) for name in _NETWORK_FIELDS})
    network = describe_network(new.network(), open_served(new.network()))
    connect_service(service)
    try:
        deploy(new)
    except RuntimeError:
        deploy(old)
        raise
    write_service(dataclasses.replace(service, replicas=replica_fields(new)))
    print_text(f"{network['network']['name']}, of {len(network['labels'])} classes, answers at {service.url}")
    return 0


def replica_fields(options: ReplicaOptions) -> dict[str, Any]:
    """The options of the replicas as plain data, for the record of the service."""
    fields = {field.name: getattr(options, field.name) for field in dataclasses.fields(ReplicaOptions)}
    return fields | options.network()


def read_replica_options(fields: dict[str, Any]) -> ReplicaOptions:
    """The options of `replica_fields`."""
    paths = {name: Path(fields[name]) for name in ("checkpoint", "model", "linear") if fields[name] is not None}
    return ReplicaOptions(**(fields | paths))
