"""Video networks of transformers and torchvision, taken apart into named stages."""
