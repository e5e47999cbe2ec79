"""The rules that turn gradients into steps: torch's own, and Muon for the weights of convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cifar_core.config import TrainConfig
from cifar_core.models import Classifier

ADAM_BETAS = (0.9, 0.999)
EPSILON = 1e-8

ADAM_SHARE = 0.1
"""Of the learning rate, for what is not turned by Muon with fixed norms."""

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, chosen by Jordan (2024) for speed: singular values end in about [0.7, 1.2]."""


def optimiser(config: TrainConfig, model: Classifier, dtype: torch.dtype = torch.float32) -> torch.optim.Optimizer:
    """The optimiser a run asks for, of what is not frozen; the learning rate of its groups is set anew at every step.

    Args:
        dtype: Of the products of matrices that need not be exact.
    """
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    shared: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(learned, fused=True, **shared)
        case "adamw":
            return torch.optim.AdamW(learned, fused=True, **shared)
        case "adagrad":
            return torch.optim.Adagrad(learned, **shared)
        case "rmsprop":
            return RMSprop(learned, momentum=config.momentum, **shared)
        case "muon":
            rule: dict[str, Any] = {"momentum": config.momentum, "nesterov": config.nesterov}
            return Muon(model, fixed_norm=config.fixed_norm, dtype=dtype, **rule, **shared)
    nesterov = config.nesterov and config.momentum > 0
    return torch.optim.SGD(learned, momentum=config.momentum, nesterov=nesterov, fused=True, **shared)


class RMSprop(torch.optim.RMSprop):
    """torch's own, with a momentum that may begin in the middle of a training, where torch's has no place for it."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"] if group["momentum"] > 0 else ():
                if self.state[parameter]:
                    self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
        return super().step(closure)


class Muon(torch.optim.Optimizer):
    """Muon for hidden weights and AdamW for all others (Jordan, 2024).

    Muon replaces the momentum of a weight matrix by the nearest semi-orthogonal matrix, so that every direction is
    learned at the same pace. A convolution (K, C, h, w) is taken as the matrix (K, C h w). The step is scaled by
    0.2 sqrt(max(rows, columns)), which gives it the size of an AdamW step (Liu et al., 2025, equation 4): one learning
    rate and one weight decay then serve both kinds. The head, norms and biases take AdamW steps.

    With `fixed_norm` a hidden weight keeps the norm it began with and turns by the share `lr` of it (Jordan, 2024, who
    sets that norm to the square root of the rows). Every layer then learns at the same relative pace, which needs no
    weight decay and suits short trainings of networks with batch norm. The AdamW steps are a tenth as large.

    Args:
        momentum: Share of the last direction that is carried on, in [0, 1).
        dtype: In which matrices are made orthogonal; needs not be exact.
    """

    def __init__(
        self,
        model: Classifier,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        nesterov: bool = True,
        fixed_norm: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.fixed_norm = fixed_norm
        self.dtype = dtype
        head = {id(parameter) for parameter in model.head.parameters()}
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        hidden = [p for p in learned if p.ndim >= 2 and id(p) not in head]
        others = [p for p in learned if p.ndim < 2 or id(p) in head]
        groups = [{"params": hidden, "orthogonal": True}, {"params": others, "orthogonal": False}]
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                rate = group["lr"]
                change = (self._orthogonal if group["orthogonal"] else self._adam)(parameter, parameter.grad, group)
                if self.fixed_norm and group["orthogonal"]:
                    self._turn(parameter, change, rate)
                    continue
                if self.fixed_norm:
                    rate *= ADAM_SHARE
                # Decoupled, as AdamW does it.
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(change, alpha=-rate)
        return loss

    @staticmethod
    def _turn(parameter: Tensor, direction: Tensor, share: float) -> None:
        """Move a weight by a share of its norm, which it keeps."""
        norm = parameter.norm()
        parameter.sub_(direction * (share * norm / (direction.norm() + EPSILON)))
        parameter.mul_(norm / (parameter.norm() + EPSILON))

    def _orthogonal(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        matrix = direction.reshape(len(direction), -1)
        scale = 0.2 * math.sqrt(max(matrix.shape))
        return orthogonalised(matrix.to(self.dtype)).to(parameter.dtype).mul_(scale).reshape(parameter.shape)

    def _adam(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        first, second = ADAM_BETAS
        state["step"] += 1
        count = float(state["step"])
        mean = state["exp_avg"].lerp_(gradient, 1 - first) / (1 - first**count)
        square = state["exp_avg_sq"].lerp_(gradient.square(), 1 - second) / (1 - second**count)
        return mean / (square.sqrt() + EPSILON)


def orthogonalised(matrix: Tensor, iterations: int = 5) -> Tensor:
    """About the nearest semi-orthogonal matrix, by a Newton-Schulz iteration (Jordan, 2024).

    Args:
        matrix: (rows, columns).

    Returns:
        (rows, columns), in the type of `matrix`; singular values near 1 instead of exactly 1, which is as good here
        and far quicker than a decomposition. All zero stays all zero.
    """
    a, b, c = NEWTON_SCHULZ
    # bfloat16 is exact enough and quick where it is native; a CPU without it would only emulate it.
    wide = matrix if matrix.device.type == "cpu" else matrix.bfloat16()
    tall = len(wide) > wide.shape[1]
    x = wide.T if tall else wide
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


def pulled_to_zero(parameters: Iterable[nn.Parameter], strength: float) -> None:
    """Add the gradient of strength * sum of |weight| (L1) to the gradients that are there."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach().sign(), alpha=strength)
