"""Sample checkpoints are as the owner's are."""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vla_edge.export.kosmos2.sample.samples import is_trained, sample_of
from vla_edge.export.sample.sample import sample_size_bytes

CheckpointOf = Callable[..., Path]


def load(path: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True, mmap=True)


class TestTheContainer:
    def test_is_the_owners(self, checkpoint_of: CheckpointOf) -> None:
        container = load(checkpoint_of("hybrid-a"))
        assert list(container) == ["epoch", "model_state_dict", "optimizer_state_dict", "val_mae", "args"]
        assert isinstance(container["args"], argparse.Namespace)
        assert container["args"].vla_sample == (
            "vla-sample 0.1.0 layout=hybrid-a clip_form=transformers size=tiny seed=0"
        )
        assert {tensor.dtype for tensor in container["model_state_dict"].values()} == {torch.float32}

    def test_the_optimizer_is_adams_over_what_was_trained(self, checkpoint_of: CheckpointOf) -> None:
        container = load(checkpoint_of("hybrid-c"))
        trained = {name: tensor for name, tensor in container["model_state_dict"].items() if is_trained(name)}
        parameters = [torch.nn.Parameter(tensor.clone()) for tensor in trained.values()]
        optimizer = torch.optim.AdamW(parameters)
        optimizer.load_state_dict(container["optimizer_state_dict"])
        assert all(bool((optimizer.state[p]["exp_avg_sq"] >= 0).all()) for p in parameters)
        assert all(bool((optimizer.state[p]["exp_avg"] != 0).any()) for p in parameters)
        assert {float(optimizer.state[p]["step"]) for p in parameters} == {4000.0}

    def test_zip_tools_find_every_checksum_right(self, checkpoint_of: CheckpointOf) -> None:
        with zipfile.ZipFile(checkpoint_of("pure")) as archive:
            assert archive.testzip() is None

    def test_the_full_sizes_are_the_owners(self) -> None:
        megabytes = {
            layout: sample_size_bytes(sample_of(layout, "transformers", "full")) / 2**20
            for layout in ("pure", "hybrid-a")
        }
        assert megabytes["pure"] == pytest.approx(6801.8, abs=1)
        assert megabytes["hybrid-a"] == pytest.approx(7428.6, abs=1)

    def test_file_names_are_the_owners(self) -> None:
        assert sample_of("pure").file_name == "best_simple_lstm_model.pth"
        assert sample_of("hybrid-b").file_name == "best_simple_clip_lstm_model.pth"


class TestSeeds:
    def test_shared_backbones_are_the_same_in_every_layout(self, checkpoint_of: CheckpointOf) -> None:
        name = "kosmos_model.text_model.model.layers.1.ffn.fc1.weight"
        assert torch.equal(
            load(checkpoint_of("pure"))["model_state_dict"][name],
            load(checkpoint_of("hybrid-b"))["model_state_dict"][name],
        )
