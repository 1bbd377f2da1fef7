"""Layers between the parts of networks of libraries: poolings of tokens, and the check of the shape of clips."""

from torch import Tensor, nn


class MeanPooling(nn.Module):
    """Mean over the tokens, then a norm if there is one: (N, L, D) or (N, D, T, H, W) to (N, D)."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = nn.Identity() if norm is None else norm

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, D) or (N, D, T, H, W) to (N, D)."""
        pooled: Tensor = self.norm(as_sequence(tokens).mean(1))
        return pooled


class FirstToken(nn.Module):
    """The first token, which stands for the class: (N, L, D) to (N, D)."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, D) to (N, D)."""
        return tokens[:, 0]


class TokenSequence(nn.Module):
    """Features of places, or tokens, as a sequence: see `as_sequence`."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, D) or (N, D, T, H, W) to (N, L, D)."""
        return as_sequence(tokens)


def as_sequence(tokens: Tensor) -> Tensor:
    """Tokens (N, L, D), unchanged, or features of places (N, D, T, H, W), as tokens (N, T * H * W, D)."""
    return tokens if tokens.ndim == 3 else tokens.flatten(2).transpose(1, 2)


class ClipShape(nn.Module):
    """Refuses clips of another length or size than a network has weights for; others pass unchanged.

    Args:
        num_frames: T; None for any multiple of `multiple`.
        crop_size: H and W; None for any.
        multiple: what T must be a multiple of.
    """

    def __init__(self, num_frames: int | None, crop_size: int | None, multiple: int = 1) -> None:
        super().__init__()
        self.expected = num_frames, crop_size
        self.multiple = multiple

    def forward(self, clips: Tensor) -> Tensor:
        """(N, C, T, H, W), unchanged.

        Raises:
            ValueError: clips of another shape.
        """
        frames, height, width = clips.shape[2:]
        num_frames, crop_size = self.expected
        fits = num_frames in (None, frames) and frames % self.multiple == 0
        if not fits or (crop_size is not None and (height, width) != (crop_size, crop_size)):
            wanted = f"num_frames={num_frames}" if num_frames else f"num_frames a multiple of {self.multiple}"
            wanted += f", crop_size={crop_size}" if crop_size else ""
            raise ValueError(
                f"clips of {frames} frames of {height} x {width} pixels: this network takes {wanted}; set those of the "
                "data so, or build it for such clips with its arguments num_frames and crop_size"
            )
        return clips
