"""Training pairs from one image: the father is the image, the son its degraded self."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from blindsr.kernels import Kernel
from blindsr.ops import degrade, dihedral, imresize

__all__ = ["Pair", "Pairs"]


@dataclass(frozen=True)
class Pair:
    """A son and what the network must add to its interpolation.

    Args:
        son: (1, C, h, w), [0, 1].
        target: (1, C, s·h, s·w): father − interpolated son.
    """

    son: Tensor
    target: Tensor


class Pairs:
    """Crops of the pairs of one image.

    Sons are made once for the whole image, so a crop costs nothing and its borders have their true context. The
    views are those of the father: each is degraded by the same kernel after it was flipped or turned, which is a
    legitimate new pair for that kernel, symmetric or not (a flipped pair would need the flipped kernel).

    Args:
        lr: The image, (1, C, H, W), [0, 1].
        kernel: Its kernel.
        views: Dihedral views of the father.
        noise_sigma: Noise that every crop of a son gets, afresh; [0, 1] units.
        generator: Source of crops and noise, on the CPU.
    """

    def __init__(
        self,
        lr: Tensor,
        kernel: Kernel,
        *,
        views: tuple[int, ...],
        noise_sigma: float,
        generator: torch.Generator,
    ) -> None:
        self.scale = kernel.scale
        self.noise_sigma = noise_sigma
        self.generator = generator
        weights = kernel.tensor(lr)
        self.pairs = [self._pair(dihedral(lr, view), weights) for view in views]

    def _pair(self, father: Tensor, weights: Tensor) -> Pair:
        height, width = (side // self.scale * self.scale for side in father.shape[-2:])
        father = father[..., :height, :width]
        son = degrade(father, weights, self.scale)
        return Pair(son, father - imresize(son, float(self.scale)))

    def _integer(self, bound: int) -> int:
        return int(torch.randint(bound, (1,), generator=self.generator))

    def draw(self, batch: int, side: int) -> Pair:
        """Cut `batch` random crops of `side` LR pixels (or the son's size, if that is less)."""
        sons, targets = [], []
        side = min(side, *(min(pair.son.shape[-2:]) for pair in self.pairs))
        for _ in range(batch):
            pair = self.pairs[self._integer(len(self.pairs))]
            top = self._integer(pair.son.shape[-2] - side + 1)
            left = self._integer(pair.son.shape[-1] - side + 1)
            sons.append(pair.son[..., top : top + side, left : left + side])
            s = self.scale
            targets.append(pair.target[..., s * top : s * (top + side), s * left : s * (left + side)])
        son = torch.cat(sons)
        if self.noise_sigma:
            noise = torch.randn(son.shape, generator=self.generator).to(son)
            son = son + self.noise_sigma * noise
        return Pair(son, torch.cat(targets))

    def judge(self, side: int) -> Pair:
        """The fixed patch to judge on: the crop of the first pair whose target holds the most detail."""
        pair, s = self.pairs[0], self.scale
        side = min(side, *pair.son.shape[-2:])
        detail = pair.target.square().mean((0, 1))[None, None]
        stride = s * max(1, side // 4)
        pooled = avg_pool2d(detail, s * side, stride=stride)[0, 0]
        row, column = divmod(int(pooled.argmax()), pooled.shape[1])
        top, left = row * stride, column * stride
        return Pair(
            pair.son[..., top // s : top // s + side, left // s : left // s + side],
            pair.target[..., top : top + s * side, left : left + s * side],
        )
