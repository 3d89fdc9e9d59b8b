"""The pretrained network: residual blocks on the LR grid whose channels are modulated by the kernel and the noise."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from blindsr.errors import ConfigError
from blindsr.ops.wiener import FLOORS, wiener
from blindsr.upscalers.pretrained.conditioning import EMBEDDING_LENGTH, embed

__all__ = ["SCALES", "ConditionedNetwork"]

SCALES = (2, 3, 4)
_LOCAL = 9  # side of the local mean that is subtracted from the input: the network does not see absolute brightness


class _Block(nn.Module):
    """x + conv(relu((1 + γ)·conv(x) + β)) with γ and β from the conditioning (feature-wise linear modulation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        out: Tensor = x + self.second(functional.relu(self.first(x) * (1 + gamma) + beta))
        return out


class ConditionedNetwork(nn.Module):
    """Super-resolve any band of any image with any kernel: Wiener filter plus a learned residual.

    It processes single planes, so that colour, gray and multi-band images are all possible. One trunk serves all
    scales; only the first and the last convolution depend on the scale.

    Args:
        channels: Width.
        blocks: Residual blocks, two convolutions each.
        hidden: Width of the perceptron that maps the conditioning to channel modulations.
        scales: Factors from LR to HR that it has first and last convolutions for.
    """

    def __init__(
        self, *, channels: int = 64, blocks: int = 4, hidden: int = 128, scales: tuple[int, ...] = SCALES
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {f"x{s}": nn.Conv2d(1 + len(FLOORS) * s * s, channels, 3, padding=1) for s in scales}
        )
        self.tails = nn.ModuleDict({f"x{s}": nn.Conv2d(channels, s * s, 3, padding=1) for s in scales})
        self.blocks = nn.ModuleList(_Block(channels) for _ in range(blocks))
        self.modulation = nn.Sequential(
            nn.Linear(EMBEDDING_LENGTH + len(SCALES), hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 2 * channels * blocks),
        )  # fmt: skip
        self.halo = 2 * blocks + 2 + _LOCAL // 2  # radius of the receptive field, LR pixels

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

        Additional blocks come last, and their second convolution is zero (Chen, Goodfellow, Shlens, "Net2Net:
        accelerating learning via knowledge transfer", ICLR 2016).

        Raises:
            ConfigError: It has more blocks, another width, or other scales.
        """
        ours, theirs = self.state_dict(), smaller.state_dict()
        blocks = len(smaller.blocks)
        fits = ours.keys() >= theirs.keys() and all(
            tensor.shape[1:] == ours[name].shape[1:] and len(tensor) <= len(ours[name])
            for name, tensor in theirs.items()
        )
        if not fits or self.heads.keys() != smaller.heads.keys():
            raise ConfigError(
                f"initial weights must have the same width and scales and {len(self.blocks)} blocks or fewer, "
                f"got {blocks} blocks for {', '.join(smaller.heads)}."
            )
        with torch.no_grad():
            for block in self.blocks[blocks:]:
                for parameter in block.get_submodule("second").parameters():
                    parameter.zero_()
            for name, tensor in theirs.items():
                ours[name][: len(tensor)] = tensor  # the modulation has rows of each block, one block after the other

    def residual(self, lr: Tensor, linear: Tensor, embedding: Tensor, scale: int) -> Tensor:
        """Compute the residual that is added to the mean of the Wiener images.

        Args:
            lr: Planes, (P, 1, h, w).
            linear: Their Wiener images, (P, F, s·h, s·w).
            embedding: (P, E) or (1, E), from `embed`.
            scale: Factor from LR to HR.

        Returns:
            Residual, (P, 1, s·h, s·w), in the dtype of the autocast.
        """
        mean = functional.avg_pool2d(lr, _LOCAL, 1, _LOCAL // 2, count_include_pad=False)
        # Scaled to about unit variance; the differences are small numbers, which is what bfloat16 keeps precisely.
        x = 8 * torch.cat([lr - mean, functional.pixel_unshuffle(linear, scale) - mean], 1)
        which = embedding.new_tensor([float(s == scale) for s in SCALES]).expand(len(embedding), -1)
        modulation = self.modulation(torch.cat([embedding, which], 1))
        gammas_betas = modulation.reshape(len(embedding), len(self.blocks), 2, -1, 1, 1)
        x = self.heads[f"x{scale}"](x.contiguous(memory_format=torch.channels_last))
        for i, block in enumerate(self.blocks):
            x = block(x, gammas_betas[:, i, 0], gammas_betas[:, i, 1])
        return functional.pixel_shuffle(self.tails[f"x{scale}"](x), scale) / 8

    def forward(
        self, lr: Tensor, kernel: Tensor, scale: int, noise_sigma: float = 0.0, kernel_error: float = 0.0
    ) -> Tensor:
        """Super-resolve (B, C, h, w) in [0, 1] to (B, C, s·h, s·w), not clamped."""
        h, w = lr.shape[-2:]
        linear = wiener(lr, kernel, scale, noise_sigma, kernel_error)
        planes, linear_planes = lr.reshape(-1, 1, h, w), linear.reshape(-1, len(FLOORS), h * scale, w * scale)
        residual = self.residual(planes, linear_planes, embed(kernel, scale, noise_sigma, kernel_error), scale)
        base = linear.mean(2)
        return base + residual.reshape(base.shape).to(base.dtype)
