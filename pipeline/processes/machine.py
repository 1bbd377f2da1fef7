"""Resources of this machine: processors, free ports, network interfaces."""

import os
import socket

import psutil


def num_processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_ports(host: str, count: int) -> list[int]:
    """Finds distinct TCP ports on which nothing listens.

    Args:
        host: An address of this machine, IPv4 or IPv6.
        count: Number of ports.

    Raises:
        OSError: `host` is no address of this machine.
    """
    sockets = [socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) for _ in range(count)]
    try:
        for each in sockets:
            each.bind((host, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def network_interfaces() -> dict[str, str]:
    """The network interfaces of this machine by name, each with its IPv4 address, or "" where it has none."""
    return {
        name: next((address.address for address in addresses if address.family == socket.AF_INET), "")
        for name, addresses in psutil.net_if_addrs().items()
    }
