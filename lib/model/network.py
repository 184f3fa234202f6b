"""The network: encoders' tokens fused to one vector, the vector to a head for each target group."""

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as SequenceOf
from typing import Any, Literal, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from lib.core.errors import InputError, SettingError, prefix_errors
from lib.core.targets import Targets
from lib.data.batch import Inputs
from lib.data.inputs import EncoderSettings, split_reference
from lib.model import encoders
from lib.model.encoders import Encoder
from lib.model.fusions import FUSIONS, AttentionWeights, Fusion
from lib.model.heads import Head, HeadOutput, find_head
from lib.model.positions import position_encoding
from lib.model.settings import Settings, list_regressed
from lib.model.stack import Stack, pool_inputs
from lib.model.tokens import Tokens
from lib.streams.base import StreamInfo


class Output(NamedTuple):
    """predictions: of each target group. attention and tokens: the fusion's attention weights and inputs. penalty: in
    training the sum of the encoders' penalties, to be added to the loss. fused: the fusion's vectors (B, V, D); None for a
    mean over networks."""

    predictions: dict[str, HeadOutput]
    attention: AttentionWeights
    tokens: dict[str, Tokens]
    penalty: Tensor
    fused: Tensor | None = None

    @property
    def predicted(self) -> dict[str, Tensor]:
        """Mean (B, K) of each target group, in units of its range."""
        return {name: prediction.mean for name, prediction in self.predictions.items()}


class Network(nn.Module):
    """Predicts target groups: encoders turn streams into tokens, a fusion combines the tokens, heads predict.

    encoders: by name; the input of `forward` has the same names. fusion: built with the widths of the tokens that it gets.
    heads: by target group, built with the width of the vectors that they get. projections: a linear layer for each encoder
    if the fusion is `projected`; projected tokens contain their position in time and space. hidden: a module for each vector
    of the fusion, between fusion and heads. missing: with "keep" a learnt token stands for an encoder that a clip has no
    step for; with "drop" there are no such clips. paths: by target group, a regression whose output is added to that of the
    head's linear layer; its inputs are those of the encoders of kind vectors. Raises InputError if a projection is missing.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        fusion: Fusion,
        heads: Mapping[str, Head],
        projections: Mapping[str, nn.Linear] | None = None,
        hidden: SequenceOf[nn.Module] = (),
        missing: Literal["drop", "keep"] = "drop",
        paths: Mapping[str, Stack] | None = None,
    ) -> None:
        super().__init__()
        projections = projections or {}
        if missing_layers := [name for name in encoders if fusion.projected and name not in projections]:
            raise InputError(
                f"projections has no {missing_layers[0]!r}, but {type(fusion).__name__} needs tokens with positions;"
                " allowed: a linear layer for each encoder; add it, or choose a fusion that is not projected"
            )
        self.settings_by_encoder: dict[str, EncoderSettings] = {}
        """The streams and steps that each encoder reads; empty if the network was not built from settings."""
        self.encoders, self.project = nn.ModuleDict(encoders), nn.ModuleDict(projections)
        self.fusion, self.hidden, self.heads = fusion, nn.ModuleList(hidden), nn.ModuleDict(heads)
        widths = {name: encoder.output_dim for name, encoder in encoders.items()}
        widths |= {name: layer.out_features for name, layer in projections.items()}
        learnt = {name: nn.Parameter(torch.zeros(width)) for name, width in widths.items()}
        self.absent = nn.ParameterDict(learnt if missing == "keep" else {})
        self.paths = nn.ModuleDict(paths or {})

    @classmethod
    def from_settings(cls, settings: Settings, targets: Targets, streams: Mapping[str, StreamInfo]) -> Self:
        """Return the network that the section model of params.yaml describes, randomly initialised but for pretrained
        weights.

        streams: how the streams that the encoders read were made, with the shapes of their steps. Raises InputError if an
        encoder or the fusion doesn't fit them.
        """
        settings_by_encoder = settings.settings_by_encoder()
        built = {
            name: encoders.build(name, of_encoder, _find_shapes(of_encoder, streams))
            for name, of_encoder in settings_by_encoder.items()
        }
        widths = {name: encoder.output_dim for name, encoder in built.items()}
        kind, projections = FUSIONS[settings.fusion], dict[str, nn.Linear]()
        if kind.projected:
            projections = {name: nn.Linear(width, settings.width) for name, width in widths.items()}
            widths = dict.fromkeys(widths, settings.width)
        with prefix_errors("model."):
            fusion = kind(widths, settings.fusion_options)
        size, vectors = settings.hidden or fusion.output_dim, fusion.vectors
        hidden = [
            nn.Sequential(nn.Linear(fusion.output_dim, size), nn.ReLU())
            for _ in range(vectors if settings.hidden else 0)
        ]
        heads = {
            name: find_head(group)(size, len(group.columns), vectors, settings.dropout)
            for name, group in targets.items()
        }
        paths = {name: Stack() for name in targets} if settings.linear_path else {}
        for name, path_head in heads.items() if settings.linear_path else ():
            _start_at_zero(name, targets[name].head, path_head)
        network = cls(built, fusion, heads, projections, hidden, missing=settings.missing, paths=paths)
        network.settings_by_encoder = settings_by_encoder
        return network

    def forward(self, inputs: Inputs, attend: bool = False) -> Output:
        """Return predictions and tokens, and with `attend` the attention weights of a fusion that has some."""
        tokens = {name: self._encode(name, read) for name, read in inputs.items() if name in self.encoders}
        fused, attention = self.fusion(tokens, attend)  # (B, V, D)
        vectors = fused.unbind(1)
        if len(self.hidden):
            vectors = [layer(vector) for layer, vector in zip(self.hidden, vectors, strict=True)]
        paths = self._follow_paths(inputs) if len(self.paths) else {}
        predictions = {name: head(vectors, paths.get(name)) for name, head in self.heads.items()}
        penalty = fused.new_zeros(())
        for encoder in cast(Iterator[Encoder], self.encoders.values()) if self.training else ():
            if encoder.penalty is not None:
                penalty, encoder.penalty = penalty + encoder.penalty, None  # the next batch may have no clip for it
        return Output(predictions, attention, tokens, penalty, fused)

    def _encode(self, name: str, read: Mapping[str, Any]) -> Tokens:
        """Return an encoder's tokens for the fusion. The encoder does not get clips without steps."""
        complete = torch.stack([steps.present.any(1) for steps in read.values()]).all(0)  # (B,)
        if torch.compiler.is_exporting() or bool(complete.all()):  # an exported network takes complete clips only
            tokens = self._project(name, self.encoders[name](read))
            if name in self.absent:  # with several devices each parameter needs a gradient in every batch
                tokens = tokens._replace(values=tokens.values + 0 * self.absent[name])
            return tokens
        if not complete.any():
            return self._make_absent_tokens(name, complete)
        return self._insert_absent_token(name, self._encode_complete_clips(name, read, complete), complete)

    def _encode_complete_clips(self, name: str, read: Mapping[str, Any], complete: Tensor) -> Tokens:
        """Return the tokens of a batch's complete clips (B,), and zeros for the others."""
        rows = complete.nonzero()[:, 0]
        inputs = {key: type(steps)(*(part[rows] for part in steps)) for key, steps in read.items()}
        tokens = self._project(name, self.encoders[name](inputs))

        def spread(part: Tensor) -> Tensor:
            """Put the rows of the complete clips among those of all clips."""
            return part.new_zeros(len(complete), *part.shape[1:]).index_copy(0, rows, part)

        return Tokens(spread(tokens.values), spread(tokens.times), spread(tokens.present), tokens.grid)

    def _insert_absent_token(self, name: str, tokens: Tokens, complete: Tensor) -> Tokens:
        """Return the tokens with the encoder's learned token in the clips that are not complete (B,)."""
        height, width = tokens.grid
        # fill all cells of the first time, because they share one mask: equal tokens count as one
        first = torch.arange(tokens.values.shape[1], device=complete.device) < height * width
        absent = self.absent[name].to(tokens.values.dtype)
        values = torch.where((~complete[:, None] & first)[..., None], absent, tokens.values)
        present = tokens.present.clone()
        present[~complete, 0] = True
        return tokens._replace(values=values, present=present)

    def _make_absent_tokens(self, name: str, complete: Tensor) -> Tokens:
        """Return the encoder's learned token for each clip of a batch without complete clips (B,)."""
        modules = (self.encoders[name], *([self.project[name]] if name in self.project else []))
        unused = sum(0 * parameter.sum() for module in modules for parameter in module.parameters())
        values = (self.absent[name] + unused).expand(len(complete), 1, -1)
        return Tokens(values, values.new_zeros(len(complete), 1), complete.new_ones(len(complete), 1), (1, 1))

    def _follow_paths(self, inputs: Inputs) -> dict[str, Tensor]:
        """Return the outputs (B, K) of the linear paths by target group."""
        numbers = pool_inputs(inputs, list_regressed(self.settings_by_encoder))
        return {name: path(numbers) for name, path in self.paths.items() if path.is_fitted}

    def _project(self, name: str, tokens: Tokens) -> Tokens:
        if name not in self.project:
            return tokens
        projected = self.project[name](tokens.values)  # (B, N, width)
        positions = position_encoding(tokens.times, *tokens.grid, projected.shape[-1])
        return tokens._replace(values=projected + positions.to(projected.dtype))

    def parameter_groups(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the name of the encoder, or "head", and each trained parameter."""
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                yield name.split(".")[1] if name.startswith("encoders.") else "head", parameter


def _start_at_zero(name: str, kind: str, head: Head) -> None:
    """Set a head's linear layers to 0, so that training begins with the linear path. Raises SettingError for other heads."""
    if not head.linked:
        raise SettingError(
            f"targets.{name}.head = {kind!r} with model.linear_path = true; allowed: sigmoid or linear; change the head, or"
            " set model.linear_path to false"
        )
    for parameter in head.layers.parameters():
        nn.init.zeros_(parameter)


def _find_shapes(encoder_settings: EncoderSettings, streams: Mapping[str, StreamInfo]) -> list[list[int]]:
    """Return the shape of a step of each stream that an encoder reads."""
    shapes = []
    for stream, array in map(split_reference, encoder_settings.reads):
        if array not in streams[stream].shapes:
            raise InputError(
                f"stream {stream} rejected every clip; metrics/{stream}.json has the reasons. Repair the clips,"
                " or change the stream's settings"
            )
        shapes.append(streams[stream].shapes[array])
    return shapes
