import pytest
import torch
from torch import nn

from models.layers.attention import MSA, TransformerLayer


def build_layer(kind: type[MSA] | type[TransformerLayer], **residual_init: float) -> nn.Module:
    torch.manual_seed(2)
    return kind(8, 2, **residual_init) if kind is MSA else kind(8, 2, 12, **residual_init)


@pytest.mark.parametrize("kind", [MSA, TransformerLayer])
def test_first_residuals_grow_with_the_residual_init(kind: type[MSA] | type[TransformerLayer]) -> None:
    X = torch.randn((2, 7, 8), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        nothing, small, usual = (
            float((build_layer(kind, residual_init=scale)(X) - X).norm()) for scale in (0.0, 0.1, 1.0)
        )
        assert nothing == 0
        assert 0 < small < 0.2 * usual
        torch.testing.assert_close(build_layer(kind)(X), build_layer(kind, residual_init=0.1)(X))
