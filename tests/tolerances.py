"""How near two results must be, by dtype. A looser value needs a comment where it is used."""

import torch

# dtype: (relative, absolute)
TOLERANCES = {
    torch.float64: (1e-12, 1e-12),
    torch.float32: (1e-5, 1e-6),
    torch.float16: (1e-2, 1e-2),
    torch.bfloat16: (1e-2, 1e-2),
}


def assert_near(actual: torch.Tensor, expected: torch.Tensor, *, what: str = "the two tensors differ") -> None:
    """Compare by the table, after comparing shape and dtype."""
    relative, absolute = TOLERANCES[actual.dtype]
    torch.testing.assert_close(actual, expected, rtol=relative, atol=absolute, msg=lambda text: f"{what}: {text}")
