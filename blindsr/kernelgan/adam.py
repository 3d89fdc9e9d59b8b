"""Adam (Kingma & Ba, ICLR 2015, arXiv:1412.6980) on one vector, without an optimiser's bookkeeping at each step."""

import torch
from torch import Tensor
from torch.optim.adam import adam

from blindsr.kernelgan.config import KernelGANConfig

__all__ = ["Adam"]

# Keeps a weight without any gradient where it is (torch's and the authors' value).
_EPSILON = 1e-8


class Adam:
    """The optimiser of one network.

    Args:
        weights: All weights of the network, (N,); changed in place by `step`.
        gradient: Its gradient, (N,); the caller writes it before each step.
        config: The two decays.
    """

    def __init__(self, weights: Tensor, gradient: Tensor, config: KernelGANConfig) -> None:
        self._weights, self._gradients = [weights], [gradient]
        self._mean, self._mean_square = [torch.zeros_like(weights)], [torch.zeros_like(weights)]
        self._step = [torch.zeros((), dtype=torch.float32, device=weights.device)]
        self._betas = (config.beta1, config.beta2)

    def step(self, rate: float) -> None:
        """Walk one step with the gradient as it is now."""
        adam(
            self._weights,
            self._gradients,
            self._mean,
            self._mean_square,
            [],
            self._step,
            fused=True,
            amsgrad=False,
            beta1=self._betas[0],
            beta2=self._betas[1],
            lr=rate,
            weight_decay=0.0,
            eps=_EPSILON,
            maximize=False,
        )
