import importlib
import sys

import pytest
import torch

from blindsr.ops.adam import Adam


def _quadratic(parameters):
    return sum((parameter - 1).square().sum() for parameter in parameters)


def test_steps_are_those_of_pytorch():
    generator = torch.Generator().manual_seed(3)
    start = [torch.randn(4, 3, generator=generator), torch.randn(2, generator=generator), torch.ones(2)]
    own, theirs = ([tensor.clone().requires_grad_() for tensor in start] for _ in range(2))
    ours = Adam(own, 0.1, betas=(0.5, 0.99))
    reference = torch.optim.Adam(theirs, lr=0.1, betas=(0.5, 0.99), fused=True)
    for rate in (0.1, 0.1, 0.02):
        ours.learning_rate = reference.param_groups[0]["lr"] = rate
        ours.clear()
        _quadratic(own[:2]).backward()  # the third one has no gradient
        ours.step()
        reference.zero_grad(set_to_none=True)
        _quadratic(theirs[:2]).backward()
        reference.step()
    assert all(torch.equal(a, b) for a, b in zip(own, theirs, strict=True))
    assert torch.equal(own[2], start[2])


def test_minimise_leaves_other_parameters_without_gradients():
    own, other = (torch.zeros(3, requires_grad=True) for _ in range(2))
    Adam([own], 0.1).minimise(_quadratic([own, other]))
    assert torch.allclose(own.detach(), torch.full((3,), 0.1))
    assert other.grad is None


def test_a_step_without_gradients_changes_nothing():
    own = torch.ones(3, requires_grad=True)
    Adam([own], 0.1).step()
    assert torch.equal(own.detach(), torch.ones(3))


def test_the_compiler_of_pytorch_is_not_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # an import of it fails
    own = torch.zeros(2, requires_grad=True)
    Adam([own], 0.1).minimise(own.sum())
    with pytest.raises(ImportError):
        importlib.import_module("torch._dynamo")
