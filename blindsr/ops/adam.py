"""Adam, for the methods that train on one image.

The arithmetic is PyTorch's own, by its functional form: the class `torch.optim.Adam` imports PyTorch's compiler, which
takes more than a second of every run and is not used.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

__all__ = ["Adam"]


class Adam:
    """The optimiser of some parameters (Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015).

    Args:
        parameters: Leaves that require gradients. Those without a gradient are left unchanged by a step.
        learning_rate: α, may be set between two steps.
        betas: Decay rates β₁ and β₂ of the moments.
    """

    def __init__(
        self, parameters: Iterable[Tensor], learning_rate: float, *, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        self.parameters = list(parameters)
        self.learning_rate, self.betas = learning_rate, betas
        self._first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self._second = [torch.zeros_like(parameter) for parameter in self.parameters]
        # Counted for each one, on its device: those without a gradient make no step.
        self._steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients."""
        used = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        if not used:
            return
        parameters = [self.parameters[i] for i in used]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        adam(
            parameters,
            gradients,
            [self._first[i] for i in used],
            [self._second[i] for i in used],
            [],
            [self._steps[i] for i in used],
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
            fused=True,
        )

    def minimise(self, loss: Tensor) -> None:
        """One step on a loss; parameters of others get no gradients."""
        self.clear()
        loss.backward(inputs=self.parameters)  # type: ignore[no-untyped-call]
        self.step()
