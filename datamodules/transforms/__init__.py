"""From decoded frames to the pixels that a network takes, on the CPU and on the device."""
