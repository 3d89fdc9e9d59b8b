"""The pretrained network: residual blocks on half the LR grid, modulated by the kernel and the noise.

Its input is linear, the results of the Wiener filter (`blindsr.ops.wiener`); it adds what is not. The trunk works on
2×2 LR pixels at a time with four times the channels: as many multiplications as on the LR grid, twice the receptive
field, and a third of the time on a CPU, which on the finer grid waits for its memory. Two blocks on the LR grid, before
and after the trunk, keep single pixels apart. One trunk serves ×2, ×3 and ×4, and one band as well as three: luma and
chroma of a colour image are processed together.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from blindsr.errors import ConfigError
from blindsr.ops.geometry import local_mean
from blindsr.upscalers.pretrained.conditioning import EMBEDDING_LENGTH, SCALES

__all__ = ["ConditionedNetwork", "FrozenNetwork", "NetworkConfig", "linear_base"]

_HIDDEN = 128  # width of the perceptron that maps the conditioning to channel modulations
_LOCAL = 9  # side of the local mean that is subtracted from the input: the network does not see absolute brightness
_GAIN = 8  # the input is scaled to about unit variance
_LUMA_SHARE, _CHROMA_SHARE = 1 / 8, 1 / 16  # scale of the residuals
_CHROMA_GAIN = 2 * _GAIN  # chroma has a quarter of luma's variance


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Size of a network.

    Args:
        channels: Width of the trunk; a quarter of it is the width on the LR grid.
        blocks: Residual blocks of the trunk, two 3×3 convolutions each.
        scales: Scales that it has first and last convolutions for.
    """

    channels: int = 128
    blocks: int = 6
    scales: tuple[int, ...] = SCALES

    @property
    def widths(self) -> list[int]:
        """Channels of every block: one block on the LR grid, the trunk, another one on the LR grid."""
        return [self.channels // 4, *[self.channels] * self.blocks, self.channels // 4]


def linear_base(linear: Tensor) -> Tensor:
    """What the residual is added to: (P, 2, …) to (P, 1, …), or (P, 4, …) to (P, 3, …); luma is the floors' mean."""
    return torch.cat([linear[:, :2].mean(1, keepdim=True), linear[:, 2:]], 1)


class _Block(nn.Module):
    """x + conv(relu((1 + γ)·conv(x) + β)) with γ and β from the conditioning (feature-wise linear modulation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        out: Tensor = x + self.second(functional.relu(torch.addcmul(beta, self.first(x), gamma), inplace=True))
        return out


class ConditionedNetwork(nn.Module):
    """The residual of one band, or of luma and chroma together, with any kernel.

    Args:
        config: Its size.
    """

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config = NetworkConfig() if config is None else config
        fine, squares = config.channels // 4, {s: s * s for s in config.scales}
        self.heads = nn.ModuleDict({f"x{s}": nn.Conv2d(1 + 2 * n, fine, 3, padding=1) for s, n in squares.items()})
        self.chroma_heads = nn.ModuleDict(
            {f"x{s}": nn.Conv2d(2 + 2 * n, fine, 3, padding=1, bias=False) for s, n in squares.items()}
        )
        self.tails = nn.ModuleDict({f"x{s}": nn.Conv2d(fine, n, 3, padding=1) for s, n in squares.items()})
        self.chroma_tails = nn.ModuleDict({f"x{s}": nn.Conv2d(fine, 2 * n, 3, padding=1) for s, n in squares.items()})
        self.blocks = nn.ModuleList(_Block(width) for width in config.widths)
        self.modulation = nn.Sequential(
            nn.Linear(EMBEDDING_LENGTH, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(),
            nn.Linear(_HIDDEN, 2 * sum(config.widths)),
        )  # fmt: skip
        # Radius of the receptive field, LR pixels, even: convolutions, local mean, cells of 2×2 pixels.
        reach = 4 * config.blocks + 4 + 2 + _LOCAL // 2 + 1
        self.halo = reach + reach % 2

    def require_scale(self, scale: int) -> None:
        """Check that the network was trained for a scale.

        Raises:
            ConfigError: It was not.
        """
        if f"x{scale}" not in self.heads:
            known = ", ".join(name.removeprefix("x") for name in self.heads)
            raise ConfigError(
                f"the network was trained for the scales {known}, got ×{scale}; choose one of these, or other weights."
            )

    def initialise(self, generator: torch.Generator) -> None:
        """Draw He-initialised weights from a generator; residual branches and last layers start small."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim == 1:
                    parameter.zero_()
                    continue
                gain = 0.1 if "tails" in name or "modulation.4" in name or "second" in name else 1.0
                fan_in = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * gain * (2 / fan_in) ** 0.5)

    def grow_from(self, smaller: "ConditionedNetwork") -> None:
        """Copy the weights of a network with as many blocks or fewer, so that both compute the same function.

        Additional blocks come last in the trunk, and their second convolution is zero (Chen, Goodfellow, Shlens,
        "Net2Net: accelerating learning via knowledge transfer", ICLR 2016).

        Raises:
            ConfigError: It has more blocks, another width, or other scales.
        """
        ours, theirs = self.config, smaller.config
        same = all(getattr(ours, name) == getattr(theirs, name) for name in ("channels", "scales"))
        if not same or theirs.blocks > ours.blocks:
            raise ConfigError(
                f"initial weights must have {ours.channels} channels, the scales {', '.join(self.heads)} and "
                f"{ours.blocks} blocks or fewer; they have {theirs.channels} channels, {', '.join(smaller.heads)} and "
                f"{theirs.blocks} blocks."
            )
        last = len(self.blocks) - 1
        copied = {i: i for i in range(theirs.blocks + 1)} | {last: theirs.blocks + 1}
        state, old = self.state_dict(), smaller.state_dict()
        with torch.no_grad():
            for name, tensor in old.items():
                if not name.startswith(("blocks.", "modulation.4.")):
                    state[name].copy_(tensor)
            for number, block in enumerate(self.blocks):
                if number in copied:
                    block.load_state_dict(smaller.blocks[copied[number]].state_dict())
                else:
                    for parameter in block.get_submodule("second").parameters():
                        parameter.zero_()
            for end in ("weight", "bias"):  # rows of the modulation, one block after the other
                rows = torch.split(old[f"modulation.4.{end}"], [2 * width for width in theirs.widths])
                own = torch.split(state[f"modulation.4.{end}"], [2 * width for width in ours.widths])
                for number, row in copied.items():
                    own[number].copy_(rows[row])

    def forward(
        self, lr: Tensor, linear: Tensor, embedding: Tensor, scale: int, coloured: Tensor | None = None
    ) -> Tensor:
        """Compute the residual that is added to `linear_base`.

        Args:
            lr: One band each, (P, 1, h, w), or luma and chroma, (P, 3, h, w); h and w even.
            linear: Their Wiener images, (P, 2, s·h, s·w) or (P, 4, s·h, s·w).
            embedding: (P, E) or (1, E), from `embed`.
            scale: Factor from LR to HR.
            coloured: (P,), 1 where there is chroma and 0 where not; None is 1 for all.

        Returns:
            (P, 1, s·h, s·w) or (P, 3, s·h, s·w), in the dtype of the autocast.
        """
        end = f"x{scale}"
        x = self.heads[end](_prepared(lr[:, :1], linear[:, :2], scale, _GAIN))
        if lr.shape[1] == 3:
            chroma = self.chroma_heads[end](_prepared(lr[:, 1:], linear[:, 2:], scale, _CHROMA_GAIN))
            x = x + (chroma if coloured is None else chroma * coloured.reshape(-1, 1, 1, 1).to(chroma.dtype))
        modulation = self.modulation(embedding).to(x.dtype)
        parts = iter(torch.split(modulation, [width for width in self.config.widths for _ in range(2)], 1))
        pairs = [(1 + gamma[..., None, None], beta[..., None, None]) for gamma, beta in zip(parts, parts, strict=True)]
        x = self.blocks[0](x, *pairs[0])
        trunk = _halved_grid(x)
        for block, pair in zip(self.blocks[1:-1], pairs[1:-1], strict=True):
            trunk = block(trunk, *pair)
        x = self.blocks[-1](x + _full_grid(trunk), *pairs[-1])
        added = functional.pixel_shuffle(self.tails[end](x), scale) * _LUMA_SHARE
        if lr.shape[1] == 1:
            return added
        return torch.cat([added, functional.pixel_shuffle(self.chroma_tails[end](x), scale) * _CHROMA_SHARE], 1)


_Layer = tuple[Tensor, Tensor | None]


class FrozenNetwork:
    """A network for one conditioning and one scale, for inference: the modulation is multiplied into the weights.

    (1 + γ)·conv(x) + β is one convolution with other weights and another bias. What remains of a pass are convolutions,
    ReLUs and additions in place: half of the time.

    Args:
        network: The network.
        embedding: (1, E), from `embed`.
        scale: Factor from LR to HR.
        dtype: Type of the arithmetic.
    """

    def __init__(self, network: ConditionedNetwork, embedding: Tensor, scale: int, dtype: torch.dtype) -> None:
        self._scale, self._dtype = scale, dtype
        end = f"x{scale}"

        def layer(module: nn.Module, gamma: Tensor | None = None, beta: Tensor | None = None) -> _Layer:
            convolution = cast(nn.Conv2d, module)
            weight = convolution.weight.detach().float()
            bias = None if convolution.bias is None else convolution.bias.detach().float()
            if gamma is not None and beta is not None and bias is not None:
                weight, bias = weight * gamma[:, None, None, None], bias * gamma + beta
            weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
            return weight, None if bias is None else bias.to(dtype)

        with torch.no_grad():
            modulation = network.modulation(embedding.float())[0]
            parts = iter(torch.split(modulation, [width for width in network.config.widths for _ in range(2)]))
            self._blocks = [
                (layer(block.get_submodule("first"), 1 + gamma, beta), layer(block.get_submodule("second")))
                for block, gamma, beta in zip(network.blocks, parts, parts, strict=True)
            ]
            self._head, self._chroma_head = layer(network.heads[end]), layer(network.chroma_heads[end])
            self._tail, self._chroma_tail = layer(network.tails[end]), layer(network.chroma_tails[end])

    def _block(self, x: Tensor, number: int) -> Tensor:
        first, second = self._blocks[number]
        inner = functional.conv2d(x, *first, padding=1).relu_()
        return functional.conv2d(inner, *second, padding=1).add_(x)

    @torch.no_grad()
    def __call__(self, lr: Tensor, linear: Tensor) -> Tensor:
        """The residual as of `ConditionedNetwork.forward`, float32."""
        x = functional.conv2d(self._input(lr[:, :1], linear[:, :2], _GAIN), *self._head, padding=1)
        if lr.shape[1] == 3:
            x += functional.conv2d(self._input(lr[:, 1:], linear[:, 2:], _CHROMA_GAIN), *self._chroma_head, padding=1)
        x = self._block(x, 0)
        trunk = _halved_grid(x)
        for number in range(1, len(self._blocks) - 1):
            trunk = self._block(trunk, number)
        x = self._block(x.add_(_full_grid(trunk)), len(self._blocks) - 1)
        added = [self._output(x, self._tail) * _LUMA_SHARE]
        if lr.shape[1] == 3:
            added.append(self._output(x, self._chroma_tail) * _CHROMA_SHARE)
        return torch.cat(added, 1)

    def _input(self, planes: Tensor, linear: Tensor, gain: float) -> Tensor:
        return _prepared(planes, linear, self._scale, gain).to(self._dtype)

    def _output(self, x: Tensor, tail: _Layer) -> Tensor:
        return functional.pixel_shuffle(functional.conv2d(x, *tail, padding=1).float(), self._scale)


def _halved_grid(x: Tensor) -> Tensor:
    """(P, C, h, w) to (P, 4·C, h/2, w/2), channels last; in channels-last order rows are moved, not single numbers."""
    p, c, h, w = x.shape
    moved = x.permute(0, 2, 3, 1).reshape(p, h // 2, 2, w // 2, 2 * c).transpose(2, 3)
    return moved.reshape(p, h // 2, w // 2, 4 * c).permute(0, 3, 1, 2)


def _full_grid(x: Tensor) -> Tensor:
    """Undo `_halved_grid`."""
    p, c, h, w = x.shape
    moved = x.permute(0, 2, 3, 1).reshape(p, h, w, 2, c // 2).transpose(2, 3)
    return moved.reshape(p, 2 * h, 2 * w, c // 4).permute(0, 3, 1, 2)


def _prepared(planes: Tensor, linear: Tensor, scale: int, gain: float) -> Tensor:
    """The input of a first convolution: planes and Wiener images less the local mean.

    The differences are small numbers, which is what bfloat16 keeps precisely.
    """
    mean = local_mean(planes, _LOCAL)
    of_linear = mean.repeat_interleave(linear.shape[1] // planes.shape[1] * scale * scale, 1)
    x = gain * torch.cat([planes - mean, functional.pixel_unshuffle(linear, scale) - of_linear], 1)
    return x.contiguous(memory_format=torch.channels_last)
