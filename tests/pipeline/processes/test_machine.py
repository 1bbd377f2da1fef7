"""What a machine has, by the system's own word."""

import socket

import pytest

from pipeline.processes.machine import free_ports, network_interfaces, num_processors


def test_what_there_is() -> None:
    assert num_processors() >= 1
    here = network_interfaces()
    assert set(here) == {name for _, name in socket.if_nameindex()}
    assert "127.0.0.1" in here.values()


def test_free_ports_differ_and_an_address_of_elsewhere_is_refused() -> None:
    ports = free_ports("127.0.0.1", 3)
    assert len(set(ports)) == 3
    with pytest.raises(OSError, match="assign requested address"):
        free_ports("192.0.2.1", 1)
