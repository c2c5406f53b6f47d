"""RA-LWLM's head: a softmax centroid, corrected."""

import torch

from models.baselines.retrieval_head import RetrievalHead

K, F = 6, 10


def draw() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(8)
    return (
        torch.randn(3, F, generator=generator),
        torch.randn(3, K, F, generator=generator),
        100 + 10 * torch.randn(3, K, 2, generator=generator),
    )


def test_an_untrained_head_answers_the_centroid_of_the_retrieved() -> None:
    query, references, positions = draw()
    found = RetrievalHead(F, width=16)(query, references, positions)
    assert (found > positions.amin(1)).all()
    assert (found < positions.amax(1)).all()


def test_a_sharp_softmax_answers_the_most_similar_one() -> None:
    query, references, positions = draw()
    query = references[:, 2]
    head = RetrievalHead(F, width=16)
    with torch.no_grad():
        head.log_temperature.fill_(5.0)
    assert torch.allclose(head(query, references, positions), positions[:, 2], atol=1e-2)


def test_moving_the_street_moves_the_answer() -> None:
    query, references, positions = draw()
    torch.manual_seed(0)
    head = RetrievalHead(F, width=16)
    torch.nn.init.normal_(head.residual.weight)
    shift = torch.tensor([40.0, -7.0])
    assert torch.allclose(
        head(query, references, positions + shift), head(query, references, positions) + shift, atol=1e-2
    )
