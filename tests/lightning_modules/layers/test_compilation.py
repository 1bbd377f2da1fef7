"""`compile: true` makes one graph of a network, on which full batches stay; graphs are counted by a backend."""

import pytest
import torch
from torch._dynamo.utils import counters

from lightning_modules import C3D, CNNLSTM, I3D, InceptionV1, Video2Vec, VideoNetwork
from lightning_modules.layers.compilation import compile_network
from lightning_modules.layers.precise_batch_norm import refuse_synchronized_norms
from tests.lightning_modules.clip_batches import moving_bars
from tests.lightning_modules.layers.test_execution_options import fit

NETWORKS = {
    "C3D": lambda **kwargs: C3D(width=1, crop_size=32, batch_norm=True, num_classes=2, **kwargs),
    "I3D same": lambda **kwargs: I3D(num_classes=2, **kwargs),
    "I3D symmetric": lambda **kwargs: I3D(num_classes=2, padding="symmetric", bn_scale=True, **kwargs),
    "InceptionV1": lambda **kwargs: InceptionV1(num_classes=2, **kwargs),
    "CNNLSTM": lambda **kwargs: CNNLSTM(channels=(4, 8), hidden_size=8, num_classes=2, **kwargs),
    "CNNLSTM in pieces": lambda **kwargs: CNNLSTM(
        channels=(4, 8), hidden_size=8, num_classes=2, frames_at_once=8, **kwargs
    ),
    "Video2Vec": lambda **kwargs: Video2Vec(channels=(4, 8), hidden_size=8, predicted_frames=4, **kwargs),
}


class CountingBackend:
    """A backend of torch.compile that runs graphs as they are, and notes each: its operations, its dynamic inputs."""

    def __init__(self):
        self.graphs, self.runs = [], []

    def __call__(self, graph, inputs):
        number, nodes = len(self.graphs), list(graph.graph.nodes)
        operations = [node for node in nodes if node.op.startswith("call_")]
        is_dynamic = any(isinstance(node.meta.get("example_value"), torch.SymInt) for node in nodes)
        self.graphs.append((len(operations), is_dynamic))

        def run(*args):
            self.runs.append(number)
            return graph(*args)

        return run


@pytest.fixture
def backend():
    torch._dynamo.reset()
    counters.clear()
    yield CountingBackend()
    torch._dynamo.reset()


def step(network, num_clips):
    """A training step without an optimizer, as `fit` runs the network."""
    network.zero_grad()
    x = network.normalize(moving_bars(num_clips))
    output = network.clip_logits(x) if hasattr(network, "clip_logits") else network.loss_of(network.clip_errors(x))
    output.sum().backward()


INCEPTIONS = ("I3D same", "I3D symmetric", "InceptionV1")  # 57 convolutions take torch a while to trace


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in INCEPTIONS else []) for name in NETWORKS]
)
def test_a_network_is_one_graph_without_breaks(name, backend):
    network = NETWORKS[name]().train()
    compile_network(network.compiled_part, torch.device("cpu"), backend)
    backend.graphs.clear()  # that of the trial
    step(network, 2)
    assert len(backend.graphs) == 1
    assert not counters["graph_break"]
    layers = [module for module in network.compiled_part.modules() if not list(module.children())]
    operations, is_dynamic = backend.graphs[0]
    assert operations >= len(layers) - 1  # an Identity is none
    assert not is_dynamic
    gradients = [weight.grad for weight in network.compiled_part.parameters() if weight.requires_grad]
    assert all(gradient is not None for gradient in gradients)


def test_full_batches_stay_on_their_graph_after_smaller_ones(backend):
    network = NETWORKS["C3D"]().train()
    compile_network(network.compiled_part, torch.device("cpu"), backend)
    backend.graphs.clear()
    backend.runs.clear()
    for num_clips in (3, 4, 4, 2, 4, 3, 1, 4):  # a video is skipped in the first batch of all, too
        step(network, num_clips)
    network.eval()
    with torch.no_grad():
        for num_clips in (4, 4, 1, 4):
            network(moving_bars(num_clips))
    network.train()
    step(network, 4)
    assert [is_dynamic for _, is_dynamic in backend.graphs] == [False] * 3  # of 3 clips, of 4, of 4 in validation
    assert backend.runs == [0, 1, 1, 1, 1, 2, 2, 2, 1]


def test_the_compiler_s_error_is_told():
    def broken(graph, inputs):
        raise RuntimeError("no compiler")

    with pytest.raises(ValueError, match=r"compile=True: torch.compile does not work here \(backend='broken' raised"):
        compile_network(NETWORKS["C3D"](), torch.device("cpu"), broken)


COMPILED = {
    "C3D": lambda **kwargs: C3D(width=1, crop_size=32, num_classes=2, dropout=0.0, **kwargs),
    "Video2Vec": NETWORKS["Video2Vec"],
}


@pytest.mark.slow
@pytest.mark.timeout(900)  # a C++ compiler at work
@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_network_learns_the_same_and_its_checkpoint_loads_without(name, tmp_path):
    torch.manual_seed(0)
    plain = COMPILED[name]()
    torch.manual_seed(0)
    compiled = COMPILED[name](compile=True)
    fit(plain, tmp_path)
    trainer = fit(compiled, tmp_path)
    assert compiled.compiled_part._compiled_call_impl is not None
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = VideoNetwork.load(tmp_path / "last.ckpt")
    assert loaded.state_dict().keys() == plain.state_dict().keys()
    for first, second in zip(plain.parameters(), loaded.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


def test_synchronized_batch_norms_and_compilation_are_refused_together():
    with pytest.raises(ValueError, match=r"sync_batchnorm=true, compile=true: .*leave one of the two out"):
        refuse_synchronized_norms(torch.device("cuda"), is_compiled=True)
    refuse_synchronized_norms(torch.device("cuda"), is_compiled=False)
