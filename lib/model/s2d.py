"""S2D (Chen et al. 2023, From static to dynamic): a frozen ViT over frames, prompted by landmarks and adapted over time.

Each layer of the ViT (Dosovitskiy et al. 2021) gets two additions to its patches: a prompt made of patches and landmark map
(multi-view complementary prompter, MCP), and what a bottleneck finds along time at each place (temporal-modeling adapter,
TMA).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lib.model.settings.s2d import Init, Norms, Prompts

_EPS = 1e-6
_TMA_EPS = 1e-5  # of the norm inside TMA alone
_STD, _WIDTH = 0.02, 768  # of the weights at the start, as published for that width; a narrower ViT's are larger


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of S2D, by default those of the published network of ViT-B/16, with additions that begin at 0.

    patch: side of a patch in pixels. frames: the largest number T of frames. prompts: "deep", in each layer; "shallow",
    before the first layer alone; "none", the landmarks' tokens are added to the patches, and no layer has a TMA.
    prompt_width: number of channels inside MCP. tma: whether there is a TMA. temporal_embedding: whether a frame's tokens
    show which of the T frames it is. adapter_width, adapter_heads: of TMA's bottlenecks. norms: "own", for patches and
    landmarks of each layer; "shared", as published: layer i takes that of i - 1 for patches and the first for landmarks, the
    last is not used. init: "zero", additions begin at 0; "reference", as published; both with larger weights in a narrower
    ViT. dropout: in the ViT. feed_forward: width of its feed-forward layers, in widths of a token.
    checkpointing: activations inside layers are computed again for the gradient, to save memory.
    """

    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    frames: int = 16
    prompts: Prompts = "deep"
    prompt_width: int = 8
    tma: bool = True
    temporal_embedding: bool = True
    adapter_width: int = 192
    adapter_heads: int = 8
    norms: Norms = "own"
    init: Init = "zero"
    dropout: float = 0.0
    feed_forward: int = 4
    checkpointing: bool = False


class S2D(nn.Module):
    """Images and landmark maps of T frames to a vector for each frame.

    grid: number of patches down and across an image. channels: of a landmark map.
    """

    def __init__(self, grid: tuple[int, int], channels: int, options: Options) -> None:
        super().__init__()
        width, patch = options.width, options.patch
        self.grid, self._norms, self._checkpointing = grid, options.norms, options.checkpointing
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + grid[0] * grid[1], width))
        times = nn.Parameter(torch.empty(1, options.frames, width)) if options.temporal_embedding else None
        self.temporal_embedding = times
        self.patch_embed = nn.Conv2d(3, width, patch, patch)
        self.landmark_embed = nn.Linear(channels, width)
        self.dropout = nn.Dropout(options.dropout)
        self.blocks = nn.ModuleList(
            Block(width, options.heads, options.dropout, options.feed_forward) for _ in range(options.depth)
        )
        prompted = {"deep": options.depth, "shallow": 1, "none": 0}[options.prompts]
        adapter = options.adapter_width if options.tma else None
        self.prompts = nn.ModuleList(
            Prompt(width, options.prompt_width, adapter, options.adapter_heads) for _ in range(prompted)
        )
        self.prompt_norms = nn.ModuleList(nn.LayerNorm(width, _EPS) for _ in range(prompted))
        landmark_norms = prompted if options.norms == "own" else 0
        self.landmark_norms = nn.ModuleList(nn.LayerNorm(width, _EPS) for _ in range(landmark_norms))
        self.ln_post = nn.LayerNorm(width, _EPS)
        self._initialise(options.init, _STD * (_WIDTH / width) ** 0.5)

    def frozen(self) -> Iterator[nn.Parameter]:
        """Yield the ViT's parameters but those of its last norm, which is trained with the additions."""
        yield from (self.cls_token, self.pos_embed, *self.patch_embed.parameters(), *self.blocks.parameters())

    def forward(self, pictures: Tensor, maps: Tensor, present: Tensor | None = None) -> Tensor:
        """Standardised pictures (B, T, 3, H, W) and landmark maps (B, T, C, h, w) to vectors (B, T, D).

        present: (B, T), whether a frame is there; what is not there changes no other frame's vector.
        """
        batch, steps = pictures.shape[:2]
        if present is None:
            present = torch.ones(batch, steps, dtype=torch.bool, device=pictures.device)
        patches = self.patch_embed(pictures.flatten(0, 1)).flatten(2).transpose(1, 2)  # (B T, N, D)
        landmarks = self.landmark_embed(maps.flatten(0, 1).flatten(2).transpose(1, 2))
        if len(self.prompts):
            patches, landmarks = self._run(self._prompted, 0, patches, landmarks, present)
        else:
            patches = patches + landmarks
        tokens = torch.cat([self.cls_token.expand(patches.shape[0], -1, -1), patches], 1) + self.pos_embed
        tokens = self.dropout(tokens)
        if self.temporal_embedding is not None:
            tokens = tokens + self.temporal_embedding[:, :steps].expand(batch, -1, -1).flatten(0, 1)[:, None]
        for layer in range(len(self.blocks)):
            tokens, landmarks = self._run(self._layer, layer, tokens, landmarks, present)
        vectors = self.ln_post(tokens[:, 0])
        if self._norms == "shared" and len(self.prompts) > 1:  # several devices need a gradient of the unused norm
            vectors = vectors + 0 * sum(parameter.sum() for parameter in self.prompt_norms[-1].parameters())
        return vectors.unflatten(0, (batch, steps))

    def _layer(self, layer: int, tokens: Tensor, landmarks: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        if 0 < layer < len(self.prompts):
            patches, landmarks = self._prompted(layer, tokens[:, 1:], landmarks, present)
            tokens = torch.cat([tokens[:, :1], patches], 1)
        return self.blocks[layer](tokens), landmarks

    def _prompted(self, layer: int, patches: Tensor, landmarks: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return patches (B T, N, D) with the layer's additions, and the prompt, which stands for landmarks from now on."""
        is_own = self._norms == "own"
        norm = self.prompt_norms[layer if is_own else max(layer - 1, 0)]
        landmark_norm = self.landmark_norms[layer] if is_own else self.prompt_norms[0]
        prompt, over_time = self.prompts[layer](norm(patches), landmark_norm(landmarks), present)
        return patches + prompt if over_time is None else patches + over_time + prompt, prompt

    def _run(self, part: Callable[..., tuple[Tensor, Tensor]], *inputs: int | Tensor) -> tuple[Tensor, Tensor]:
        if self._checkpointing and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    @torch.no_grad()
    def _initialise(self, init: Init, std: float) -> None:
        self.apply(partial(_initialise, std=std))
        self.landmark_embed.reset_parameters()
        times = [] if self.temporal_embedding is None else [self.temporal_embedding]
        for parameter in (self.cls_token, self.pos_embed, *times):
            nn.init.trunc_normal_(parameter, std=0.02)
        if init == "zero":
            ends: list[nn.Module] = [] if len(self.prompts) else [self.landmark_embed]
            for prompt in cast("list[Prompt]", list(self.prompts)):
                ends += [prompt.mcp.out] if prompt.tma is None else [prompt.mcp.out, prompt.tma.spatial[-1]]
            for parameter in (*times, *(weights for end in ends for weights in end.parameters())):
                parameter.zero_()


class Block(nn.Module):
    """A pre-norm layer of a ViT, its modules named as in timm."""

    def __init__(self, width: int, heads: int, dropout: float, factor: int) -> None:
        super().__init__()
        self._heads = heads
        self.norm1 = nn.LayerNorm(width, _EPS)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.norm2 = nn.LayerNorm(width, _EPS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, factor * width), "fc2": nn.Linear(factor * width, width)})
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (S, L, D) to the same."""
        attended = self.attn["proj"](_attended(self.attn["qkv"](self.norm1(tokens)), self._heads))
        tokens = tokens + self.dropout(attended)
        inner = self.dropout(functional.gelu(self.mlp["fc1"](self.norm2(tokens))))
        return tokens + self.dropout(self.mlp["fc2"](inner))


class Prompt(nn.Module):
    """A layer's additions to the patches: those of MCP, and of TMA if the layer has one."""

    def __init__(self, width: int, prompt_width: int, adapter_width: int | None, adapter_heads: int) -> None:
        super().__init__()
        self.mcp = MCP(width, prompt_width)
        self.tma = None if adapter_width is None else TMA(width, adapter_width, adapter_heads)

    def forward(self, patches: Tensor, landmarks: Tensor, present: Tensor) -> tuple[Tensor, Tensor | None]:
        """Patches and landmarks (B T, N, D) to both additions of the same shape."""
        return self.mcp(patches, landmarks), None if self.tma is None else self.tma(patches, present)


class MCP(nn.Module):
    """Multi-view complementary prompter: patches, the salient ones raised, and landmarks, joined in few channels."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.patches, self.landmarks = nn.Linear(width, inner), nn.Linear(width, inner)
        self.fovea = Fovea()
        self.out = nn.Linear(inner, width)

    def forward(self, patches: Tensor, landmarks: Tensor) -> Tensor:
        return self.out(self.fovea(self.patches(patches)) + self.landmarks(landmarks))


class Fovea(nn.Module):
    """Values (S, N, C) times their softmax over the N places, of a sharpness that is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(10.0))

    def forward(self, values: Tensor) -> Tensor:
        return values * (self.sharpness * values).softmax(1)


class TMA(nn.Module):
    """Temporal-modeling adapter: a bottleneck with attention over time, a norm, and a bottleneck for each token."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.temporal = TemporalAdapter(width, inner, heads)
        self.norm = nn.LayerNorm(width, _TMA_EPS)
        self.spatial = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, patches: Tensor, present: Tensor) -> Tensor:
        """Patches (B T, N, D) and present (B, T) to (B T, N, D)."""
        over_time = patches.unflatten(0, present.shape).transpose(1, 2).flatten(0, 1)  # (B N, T, D)
        adapted = self.temporal(over_time, present.repeat_interleave(patches.shape[1], 0))
        adapted = adapted.unflatten(0, (present.shape[0], -1)).transpose(1, 2).flatten(0, 1)
        return self.spatial(self.norm(adapted))


class TemporalAdapter(nn.Module):
    """A bottleneck with self-attention over time, nothing added to it."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.down, self.up = nn.Linear(width, inner), nn.Linear(inner, width)
        self.qkv, self.proj = nn.Linear(inner, 3 * inner, bias=False), nn.Linear(inner, inner)

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """From tokens (S, T, D) to (S, T, D), with attention to tokens that are present (S, T) only."""
        inner = functional.gelu(self.down(tokens))
        return self.up(self.proj(_attended(self.qkv(inner), self._heads, present[:, None, None])))


def _attended(qkv: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Queries, keys and values side by side (S, L, 3 D) to the attended values (S, L, D)."""
    query, key, value = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # (S, heads, L, D / heads)
    return functional.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2)


def _initialise(module: nn.Module, std: float) -> None:
    if isinstance(module, MCP):
        for linear in (module.patches, module.landmarks, module.out):
            linear.reset_parameters()
            nn.init.xavier_uniform_(linear.weight)
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
