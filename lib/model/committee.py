"""Several networks that predict together, alone or stacked with regressions."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from lib.core.errors import SettingError
from lib.core.targets import Targets
from lib.data.batch import Inputs
from lib.data.inputs import EncoderSettings
from lib.model.fusions import Fusion
from lib.model.heads import Head, HeadOutput
from lib.model.network import Network, Output
from lib.model.settings import STACKED, Settings, list_regressed
from lib.model.stack import Stack, pool_inputs
from lib.streams.base import StreamInfo


class Committee(nn.Module):
    """The mean of several networks' predictions, and with `stacks` the weighted sum of this mean and of regressions.

    networks: of one shape. stacks: by target group. settings_by_encoder: the streams and steps of all encoders; networks may
    read some of them only. Encoders and fusion, for analyses, are those of the first network.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        stacks: Mapping[str, Stack],
        settings_by_encoder: Mapping[str, EncoderSettings],
    ) -> None:
        super().__init__()
        self.networks, self.stacks = nn.ModuleList(networks), nn.ModuleDict(stacks)
        self.settings_by_encoder = dict(settings_by_encoder)
        self._regressed = list_regressed(self.settings_by_encoder)

    @property
    def first(self) -> Network:
        """The first network."""
        network: Network = self.networks[0]  # type: ignore[assignment]
        return network

    @property
    def encoders(self) -> nn.ModuleDict:
        """The encoders of the first network."""
        return self.first.encoders

    @property
    def fusion(self) -> Fusion:
        """The fusion of the first network."""
        return self.first.fusion

    def forward(self, inputs: Inputs, attend: bool = False) -> Output:
        """Return the predictions, the mean of the networks' attention weights, and the tokens of the first network."""
        outputs: list[Output] = [network(inputs, attend) for network in self.networks]
        heads: Mapping[str, Head] = dict(self.first.heads.items())  # type: ignore[arg-type]
        predictions = {
            name: head.combine([output.predictions[name] for output in outputs]) for name, head in heads.items()
        }
        if len(self.stacks):
            numbers = pool_inputs(inputs, self._regressed)
            predictions = {
                name: HeadOutput(self.stacks[name](numbers, prediction.mean).clamp(0, 1))
                for name, prediction in predictions.items()
            }
        attention = {
            pair: torch.stack([output.attention[pair] for output in outputs]).mean(0) for pair in outputs[0].attention
        }
        return Output(predictions, attention, outputs[0].tokens, outputs[0].penalty)

    def parameter_groups(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the name of the encoder, or "head", and each trained parameter, as a network does."""
        for network in self.networks:
            yield from network.parameter_groups()  # type: ignore[operator]


def build_model(settings: Settings, targets: Targets, streams: Mapping[str, StreamInfo]) -> Network | Committee:
    """Return the model that the section `model` of params.yaml describes: a network or, with several members or
    fusion `stacked`, a committee. Arguments and errors are those of `Network.from_settings`."""
    if not settings.is_committee:
        return Network.from_settings(settings, targets, streams)
    networks = [
        Network.from_settings(settings.make_member_settings(), targets, streams) for _ in range(settings.members)
    ]
    stacks = {name: Stack() for name in targets} if settings.fusion == STACKED else {}
    check_stackable(settings, targets)
    return Committee(networks, stacks, settings.settings_by_encoder())


def check_stackable(settings: Settings, targets: Targets) -> None:
    """Raise SettingError if fusion `stacked` does not fit a target group's head."""
    if settings.fusion != STACKED:
        return
    for name, group in targets.items():
        if group.head not in ("sigmoid", "linear"):
            raise SettingError(
                f"targets.{name}.head = {group.head!r} with model.fusion = stacked; allowed: sigmoid or linear; change the"
                " head or the fusion"
            )
