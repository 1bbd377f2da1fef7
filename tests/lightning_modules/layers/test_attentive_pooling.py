"""Attentive pooling against its equations, written out head by head; and V-JEPA 2's initialization."""

import pytest
import torch
from torch import Tensor

from lightning_modules.layers.attentive_pooling import AttentivePooler

EXACT = {"rtol": 0, "atol": 1e-11}


def trained(size=8, num_heads=2, depth=3):
    """A pooler in which no weight has its initial value."""
    torch.manual_seed(0)
    pooler = AttentivePooler(size, num_heads, depth).double()
    for parameter in pooler.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return pooler


def normed(x: Tensor, layer) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt() * layer.weight + layer.bias


def linear(x: Tensor, layer) -> Tensor:
    return x @ layer.weight.T + layer.bias


def attended(queries: Tensor, tokens: Tensor, layer, num_heads: int) -> Tensor:
    """softmax(q k / sqrt(d)) v of each head, which has d neighboring features."""
    parts = [linear(queries, layer.q_proj), linear(tokens, layer.k_proj), linear(tokens, layer.v_proj)]
    heads = [part.chunk(num_heads, dim=-1) for part in parts]
    mixed = [((q @ k.T) / q.shape[-1] ** 0.5).softmax(-1) @ v for q, k, v in zip(*heads, strict=True)]
    return torch.cat(mixed, dim=-1)


def perceived(x: Tensor, layer) -> Tensor:
    inner = linear(x, layer.fc1)
    return linear(inner * 0.5 * (1 + torch.erf(inner / 2**0.5)), layer.fc2)


def pooled(tokens: Tensor, pooler, num_heads: int) -> Tensor:
    for block in pooler.self_attention_layers:
        inner = normed(tokens, block.layer_norm1)
        tokens = tokens + linear(attended(inner, inner, block.self_attn, num_heads), block.self_attn.out_proj)
        tokens = tokens + perceived(normed(tokens, block.layer_norm2), block.mlp)
    block, query = pooler.cross_attention_layer, pooler.query_tokens[0]
    query = query + attended(query, normed(tokens, block.layer_norm1), block.cross_attn, num_heads)
    return (query + perceived(normed(query, block.layer_norm2), block.mlp))[0]


@pytest.mark.parametrize("depth", [1, 3])
def test_a_pooler_is_its_equations(depth):
    """With small tokens too, where the epsilon of the norms counts."""
    pooler = trained(depth=depth)
    tokens = torch.randn(2, 5, 8, dtype=torch.float64) * torch.tensor([1.0, 1e-3], dtype=torch.float64)[:, None, None]
    expected = torch.stack([pooled(one, pooler, 2) for one in tokens])
    torch.testing.assert_close(pooler(tokens), expected, **EXACT)


def test_initial_weights_are_small_and_later_blocks_add_less():
    """Standard deviation 0.02; that of what block n adds to the tokens, and of the query's, divided by sqrt(n)."""
    torch.manual_seed(0)
    pooler = AttentivePooler(64, 4, depth=4)
    expected = {"query_tokens": 0.02, "cross_attention_layer.mlp.fc2.weight": 0.01}  # the fourth block
    for number in range(3):
        for name in ("self_attn.out_proj", "mlp.fc2"):
            expected[f"self_attention_layers.{number}.{name}.weight"] = 0.02 / (number + 1) ** 0.5
    for name, parameter in pooler.named_parameters():
        if "norm" in name or name.endswith("bias"):
            assert (parameter == (1 if name.endswith("weight") else 0)).all(), name
        else:
            within = 0.3 if name == "query_tokens" else 0.08  # 64 numbers, others at least 4096
            assert parameter.std().item() == pytest.approx(expected.get(name, 0.02), rel=within), name


@pytest.mark.parametrize(("num_heads", "depth"), [(3, 2), (2, 0)])
def test_heads_and_blocks_that_there_cannot_be_are_refused(num_heads, depth):
    with pytest.raises(ValueError, match=f"probe_depth={depth}, {num_heads} heads of 8 features: at least 1"):
        AttentivePooler(8, num_heads, depth)
