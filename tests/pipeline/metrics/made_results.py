"""Made results: scores with twins that are confused, of videos in groups."""

from typing import Any

import numpy as np

from pipeline.metrics.scored_videos import ScoredVideos


def made(num_classes: int, num_videos: int, seed: int = 0, sure: float = 2.0, **changes: Any) -> ScoredVideos:
    """Probabilities of videos whose classes are confused in pairs; four videos a group."""
    generator = np.random.default_rng(seed)
    labels = np.random.default_rng(0).integers(0, num_classes, num_videos)
    logits = generator.normal(size=(num_videos, num_classes))
    logits[np.arange(num_videos), labels] += sure
    logits[np.arange(num_videos), np.minimum(labels ^ 1, num_classes - 1)] += sure * generator.random(num_videos)
    powers = np.exp(2 * logits)
    names = [f"class {number}" for number in range(num_classes)]
    about = {"scores": "probability", "dataset": "made", "split": "test", "classes": names, "overlap": None}
    about |= {"checkpoint": f"{seed}.ckpt", "checkpoint_sha256": f"{seed:064d}", "model": "made.Model"}
    return ScoredVideos(
        scores=(powers / powers.sum(axis=1, keepdims=True)).astype(np.float32),
        labels=labels,
        class_names=names,
        keys=[f"video_{number:05d}" for number in range(num_videos)],
        groups=[f"group_{number // 4}" for number in range(num_videos)],
        provenance=about,
    )._replace(**changes)
