"""Tiny video networks of transformers with random weights, as folders that `save_pretrained` writes."""

import json
from pathlib import Path
from typing import Any

import torch

NUM_FRAMES, CROP_SIZE = 4, 32
FAMILIES = ("videomae", "timesformer", "vivit", "vjepa2")

_CLIP = {"num_frames": NUM_FRAMES, "image_size": CROP_SIZE}
_DECODER = {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_intermediate_size": 16}
_PREDICTOR = {"pred_hidden_size": 12, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2}
_OPTIONS: dict[str, dict[str, Any]] = {
    "videomae": _CLIP | _DECODER | {"decoder_num_attention_heads": 2},
    "timesformer": _CLIP,
    "vivit": _CLIP | {"tubelet_size": [2, 16, 16]},
    "vjepa2": _PREDICTOR | {"frames_per_clip": NUM_FRAMES, "crop_size": CROP_SIZE, "num_pooler_layers": 1},
}


def save_video_transformer(
    folder: Path, family: str, class_names: list[str] | None = None, preprocessing: dict[str, Any] | None = None
) -> torch.nn.Module:
    """Writes a network of two layers of 24 features for clips of 4 frames of 32 x 32.

    Args:
        folder: where to.
        family: a name of `FAMILIES`.
        class_names: the classes of its classifier; None for a network without one.
        preprocessing: configuration of its preprocessor.

    Returns:
        The network of the library, in evaluation mode.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    options = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.3}
    options |= {"intermediate_size": 32} if family != "vjepa2" else {"mlp_ratio": 2.0}
    if class_names is not None:
        options["id2label"] = dict(enumerate(class_names))
        options["label2id"] = {name: number for number, name in enumerate(class_names)}
    configuration = transformers.AutoConfig.for_model(family, **options, **_OPTIONS[family])
    kind = transformers.AutoModel if class_names is None else transformers.AutoModelForVideoClassification
    torch.manual_seed(0)
    network: torch.nn.Module = kind.from_config(configuration).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 or "position" in name or "token" in name or "time" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))  # biases, norms and embeddings begin as 0 or 1
    network.save_pretrained(folder)
    if preprocessing is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return network
