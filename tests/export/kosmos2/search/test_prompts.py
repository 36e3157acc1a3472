"""What prompts begin with alike is computed once, and changes no answer."""

from __future__ import annotations

import pytest
import torch

from vla_edge.export.checkpoint.checkpoint import read_checkpoint
from vla_edge.export.kosmos2.family import FAMILY
from vla_edge.export.kosmos2.reference import VlaPolicy
from vla_edge.export.kosmos2.sample.samples import sample_of
from vla_edge.export.kosmos2.search.prompts import common_beginning, states_of_prompts
from vla_edge.export.kosmos2.settings import PolicySettings
from vla_edge.export.sample.sample import write_sample


@pytest.fixture(scope="module", params=["full", "causal"])
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VlaPolicy:
    path = tmp_path_factory.mktemp("pure") / "pure.pth"
    write_sample(path, sample_of("pure", "transformers", "tiny", 3))
    checkpoint = read_checkpoint(path)
    settings = PolicySettings(features=("text",), projection_attention=request.param)
    policy = FAMILY.reference(checkpoint.architecture, settings, checkpoint.tensors)
    assert isinstance(policy, VlaPolicy)
    return policy


def pixels(policy: VlaPolicy) -> torch.Tensor:
    side = policy.arch.vision.image_size
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))


def alone(policy: VlaPolicy, image: torch.Tensor, ids: list[int]) -> torch.Tensor:
    rows = torch.tensor(ids).expand(len(image), -1)
    return policy.text_states(image, rows, torch.ones_like(rows))


@torch.inference_mode()
def test_the_towers_states_make_the_same_image_tokens(policy: VlaPolicy) -> None:
    given = pixels(policy)
    tokens, states = policy.image_tokens(given)
    assert torch.equal(policy.vision_states(given), states)
    assert torch.equal(policy.tokens_of(states), tokens)
    assert torch.equal(policy.vision_of(states), policy.vision(given))


TEXTS = {
    "one is longer by a token": [[9, 8], [7, 9, 8]],
    "one goes on where another ends": [[9, 8], [9, 8, 7, 6]],
    "the same twice, and another": [[9, 8], [9, 8], [5]],
    "only the place of the image": [[], [9]],
    "one alone": [[9, 8]],
}


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
@torch.inference_mode()
def test_states_are_those_of_each_prompt_by_itself(policy: VlaPolicy, texts: list[list[int]]) -> None:
    image, _ = policy.image_tokens(pixels(policy))
    before = [0, 3, *[4] * policy.arch.image_tokens, 5]
    prompts = [before + text for text in texts]
    found = states_of_prompts(policy, image, prompts)
    for states, ids in zip(found, prompts, strict=True):
        torch.testing.assert_close(states, alone(policy, image, ids), rtol=0, atol=1e-4)


@torch.inference_mode()
def test_prompts_that_begin_otherwise_share_nothing(policy: VlaPolicy) -> None:
    image, _ = policy.image_tokens(pixels(policy))
    prompts = [[start, 3, *[4] * policy.arch.image_tokens, 5] for start in (0, 6)]
    assert common_beginning(prompts) == 0
    for states, ids in zip(states_of_prompts(policy, image, prompts), prompts, strict=True):
        assert torch.equal(states, alone(policy, image, ids))
