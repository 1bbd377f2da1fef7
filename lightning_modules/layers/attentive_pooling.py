"""Attentive pooling: a learned query attends to the tokens of a frozen encoder, as V-JEPA 2 is evaluated.

Assran et al.: "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning", 2025, section 4
and the authors' `evals/video_classification_frozen`. Parameters have the names that transformers gives them.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import Parameter

_INITIAL_STD = 0.02
_NORM_EPSILON = 1e-6


class AttentivePooler(nn.Module):
    """Blocks of self-attention over the tokens, then one query that attends to them: (N, L, D) to (N, D).

    Args:
        size: D.
        num_heads: attention heads; must divide D.
        depth: number of blocks, of which the last is the query's cross-attention: 4 in V-JEPA 2.

    Raises:
        ValueError: `depth` is below 1, or D is no multiple of `num_heads`.
    """

    def __init__(self, size: int, num_heads: int, depth: int = 4) -> None:
        super().__init__()
        if depth < 1 or size % num_heads:
            raise ValueError(f"probe_depth={depth}, {num_heads} heads of {size} features: at least 1, and a divisor")
        self.query_tokens = Parameter(Tensor(1, 1, size))
        self.self_attention_layers = nn.ModuleList([_SelfAttentionBlock(size, num_heads) for _ in range(depth - 1)])
        self.cross_attention_layer = _CrossAttentionBlock(size, num_heads)
        self._initialize()

    def _initialize(self) -> None:
        nn.init.trunc_normal_(self.query_tokens, std=_INITIAL_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_INITIAL_STD)
                nn.init.zeros_(module.bias)
        # What a block adds shrinks with its number, as the additions of all blocks sum up.
        for number, block in enumerate(self.self_attention_layers, 1):
            block.get_submodule("self_attn.out_proj").weight.data.div_(math.sqrt(number))  # type: ignore[operator]
            block.get_submodule("mlp.fc2").weight.data.div_(math.sqrt(number))  # type: ignore[operator]
        self.cross_attention_layer.mlp.fc2.weight.data.div_(math.sqrt(len(self.self_attention_layers) + 1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, L, D) to vectors (N, D)."""
        for block in self.self_attention_layers:
            tokens = block(tokens)
        query = self.query_tokens.expand(len(tokens), -1, -1)
        pooled: Tensor = self.cross_attention_layer(query, tokens)
        return pooled.squeeze(1)


class _Attention(nn.Module):
    """Multi-head attention of queries (N, Q, D) to tokens (N, L, D), with an output projection or without."""

    def __init__(self, size: int, num_heads: int, project_output: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(size, size)
        self.k_proj = nn.Linear(size, size)
        self.v_proj = nn.Linear(size, size)
        if project_output:
            self.out_proj = nn.Linear(size, size)
        self._project_output = project_output

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Queries (N, Q, D) and tokens (N, L, D) to (N, Q, D)."""
        heads = [
            projected.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for projected in (self.q_proj(queries), self.k_proj(tokens), self.v_proj(tokens))
        ]
        attended = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        projected: Tensor = self.out_proj(attended) if self._project_output else attended
        return projected


class _Perceptron(nn.Module):
    """Two linear layers with a GELU between them, four times as wide inside."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(size, 4 * size)
        self.fc2 = nn.Linear(4 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        mixed: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return mixed


class _SelfAttentionBlock(nn.Module):
    """A transformer block with the norms before its two parts."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(size, eps=_NORM_EPSILON)
        self.self_attn = _Attention(size, num_heads, project_output=True)
        self.layer_norm2 = nn.LayerNorm(size, eps=_NORM_EPSILON)
        self.mlp = _Perceptron(size)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, D) to (N, L, D)."""
        normed = self.layer_norm1(tokens)
        tokens = tokens + self.self_attn(normed, normed)
        mixed: Tensor = tokens + self.mlp(self.layer_norm2(tokens))
        return mixed


class _CrossAttentionBlock(nn.Module):
    """A block in which queries attend to tokens; the queries are not normed, and the attention is not projected."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(size, eps=_NORM_EPSILON)
        self.cross_attn = _Attention(size, num_heads, project_output=False)
        self.layer_norm2 = nn.LayerNorm(size, eps=_NORM_EPSILON)
        self.mlp = _Perceptron(size)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Queries (N, Q, D) and tokens (N, L, D) to (N, Q, D)."""
        queries = queries + self.cross_attn(queries, self.layer_norm1(tokens))
        mixed: Tensor = queries + self.mlp(self.layer_norm2(queries))
        return mixed
