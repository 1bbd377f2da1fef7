"""Transforms from decoded frames to the network's input: resizing, cropping and augmentation, on CPU and device."""
