from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vla_edge.export.checkpoint.checkpoint import read_stored
from vla_edge.export.inspect.checkpoint import (
    compare_structure,
    compare_weights,
    inspect_policy,
    module_tree,
)
from vla_edge.export.inspect.cli import main
from vla_edge.export.kosmos2.family import FAMILY
from vla_edge.export.kosmos2.sample.sizes import sample_architecture
from vla_edge.export.kosmos2.tensors import expected_tensors

CheckpointOf = Callable[..., Path]
Rewritten = Callable[..., Path]


@pytest.fixture
def inspect(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs the command; gives its exit code and what it wrote to stdout, or on errors to stderr."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["vla-inspect", *map(str, arguments)])
        with pytest.raises(SystemExit) as ending:
            main()
        captured = capsys.readouterr()
        return int(ending.value.code or 0), captured.out or captured.err

    return run


Inspect = Callable[..., tuple[int, str]]


class TestOneCheckpoint:
    def test_shows_what_there_is_to_know(self, checkpoint_of: CheckpointOf, inspect: Inspect) -> None:
        code, text = inspect(checkpoint_of("hybrid-a"))
        assert code == 0
        for words in (
            "best_simple_clip_lstm_model.pth",
            "torch zip: epoch, model_state_dict, optimizer_state_dict, val_mae, args",
            "hybrid-a: feature_fusion.weight reads 256 = 192 (decoder) + 64 (CLIP image)",
            "Kosmos-2 vision 64 wide, 2 layers, MLP 192, image 112, patch 16",
            "LSTM 192 -> 128, 2 layers",
            "LayerNorm 64-64 ReLU",
            "sample: vla-sample 0.1.0 layout=hybrid-a",
            "0.2121",
            "60 tensors, 2.7 MiB (not used)",
            "batch_size=8",
        ):
            assert words in text

    def test_the_tree_tells_backbone_from_own_part(
        self, checkpoint_of: CheckpointOf, inspect: Inspect
    ) -> None:
        _, text = inspect(checkpoint_of("hybrid-a"), "--depth", "6")
        assert "kosmos_model  1,288,320  4.9 MiB  float32  backbone" in text
        assert "rnn  296,960  1.1 MiB  float32  own" in text
        assert "0..1 (2 alike), each  298,176" in text
        assert "weight_ih_l0  98,304  0.4 MiB  float32  [512, 192]" in text

    def test_depth_limits_the_tree(self, checkpoint_of: CheckpointOf, inspect: Inspect) -> None:
        _, text = inspect(checkpoint_of("pure"), "--depth", "1")
        assert "kosmos_model" in text
        assert "text_model" not in text

    def test_json_holds_the_same(self, checkpoint_of: CheckpointOf, inspect: Inspect) -> None:
        code, text = inspect(checkpoint_of("hybrid-c", "open_clip"), "--json", "--depth", "2")
        found = json.loads(text)
        assert code == 0
        assert (found["layout"], found["epoch"], found["val_mae"]) == ("hybrid-c", 10, 0.2121)
        assert found["architecture"]["clip"]["form"] == "open_clip"
        assert found["parameters"] == found["tree"]["parameters"] == 5_433_283
        assert found["sha256"] is None
        parts = {node["name"]: node["part"] for node in found["tree"]["children"]}
        assert parts == {
            "kosmos_model": "backbone",
            "clip_model": "backbone",
            "feature_fusion": "own",
            "rnn": "own",
            "actions": "own",
        }

    def test_the_hash_is_the_files(self, checkpoint_of: CheckpointOf, inspect: Inspect) -> None:
        path = checkpoint_of("pure")
        _, text = inspect(path, "--sha256")
        assert hashlib.sha256(path.read_bytes()).hexdigest() in text

    def test_an_unknown_layout_is_shown_and_explained(self, rewritten: Rewritten, inspect: Inspect) -> None:
        path = rewritten(
            lambda container: {"model": {"policy.trunk.weight": torch.zeros(3, 5)}, "note": math.inf}
        )
        code, text = inspect(path)
        assert code == 1
        assert "policy  15" in text
        assert "Layout not recognised. Unknown layout: no kosmos_model.*" in text
        code, text = inspect(path, "--json")
        assert code == 1
        assert json.loads(text)["layout"] is None
        assert json.loads(text)["extra"] == {"note": None}

    def test_stripped_and_dropped_names_are_reported(self, rewritten: Rewritten, inspect: Inspect) -> None:
        def wrap(container: dict[str, Any]) -> None:
            tensors = {f"module.{name}": tensor for name, tensor in container["model_state_dict"].items()}
            tensors["module.kosmos_model.vision_model.model.embeddings.position_ids"] = torch.zeros(
                1, dtype=torch.long
            )
            container["model_state_dict"] = tensors

        _, text = inspect(rewritten(wrap))
        assert "module." in text
        assert "kosmos_model.vision_model.model.embeddings.position_ids" in text

    def test_a_file_that_cannot_be_read_is_an_error_with_a_way_out(
        self, tmp_path: Path, inspect: Inspect
    ) -> None:
        path = tmp_path / "text.pth"
        path.write_text("no checkpoint at all")
        code, text = inspect(path)
        assert code == 2
        assert text.startswith(f"error: {path} is not a checkpoint")

    def test_what_commands_a_terminal_is_shown_harmlessly(
        self, rewritten: Rewritten, inspect: Inspect
    ) -> None:
        def add(container: dict[str, Any]) -> None:
            container["model_state_dict"]["\x1b[2Jnose"] = torch.zeros(1)
            container["args"] = {"title": "\x1b]0;owned\x07", "\x9b2J": 1}

        _, text = inspect(rewritten(add))
        assert "\\x1b[2Jnose" in text
        assert "title=\\x1b]0;owned\\x07, \\x9b2J=1" in text
        assert not {"\x1b", "\x07", "\x9b"} & set(text)

    def test_complex_numbers_become_text_in_json(self, rewritten: Rewritten, inspect: Inspect) -> None:
        code, text = inspect(
            rewritten(lambda container: container.update(phase=torch.tensor([1 + 2j]))), "--json"
        )
        assert code == 0
        assert json.loads(text)["extra"] == {"phase": ["(1+2j)"]}

    def test_tensors_that_cannot_be_listed_are_described(
        self, rewritten: Rewritten, inspect: Inspect
    ) -> None:
        odd = {"sparse": torch.eye(3).to_sparse(), "meta": torch.empty(3, device="meta")}
        code, text = inspect(rewritten(lambda container: container.update(odd)), "--json")
        assert code == 0
        assert json.loads(text)["extra"] == {
            "sparse": "tensor [3, 3] float32",
            "meta": "tensor [3] float32",
        }

    def test_explains_itself(self, inspect: Inspect) -> None:
        code, text = inspect("--help")
        assert code == 0
        assert "Examples:" in text


class TestTwoCheckpoints:
    def test_the_same_file_twice_is_equal(self, checkpoint_of: CheckpointOf, inspect: Inspect) -> None:
        path = checkpoint_of("pure")
        code, text = inspect(path, path)
        assert code == 0
        assert "The same structure: 109 tensors" in text
        assert text.count("equal") >= 10

    def test_structure_is_compared_first(self, checkpoint_of: CheckpointOf, inspect: Inspect) -> None:
        _, text = inspect(checkpoint_of("hybrid-a"), checkpoint_of("hybrid-b"))
        assert "Only in A (4)\n  actions.mlp.1.weight" in text
        assert "Only in B (4)\n  actions.mlp.2.weight" in text
        assert "feature_fusion.weight: [192, 256] float32 -> [192, 128] float32" in text

    def test_then_weights_by_module(
        self, checkpoint_of: CheckpointOf, rewritten: Rewritten, inspect: Inspect
    ) -> None:
        def train(container: dict[str, Any]) -> None:
            container["model_state_dict"]["rnn.bias_hh_l0"][7] += 0.5

        code, text = inspect(checkpoint_of("pure"), rewritten(train), "--json", "--depth", "1")
        weights = {line["name"]: line for line in json.loads(text)["weights"]}
        assert code == 0
        assert weights["kosmos_model"]["differing"] == 0
        assert weights["rnn"]["differing"] == 1
        assert weights["rnn"]["max_abs"] == pytest.approx(0.5, rel=1e-4)

    def test_a_changed_dtype_is_structure_and_its_values_are_still_compared(self) -> None:
        first, second = {"a.w": torch.ones(4)}, {"a.w": torch.ones(4, dtype=torch.float16)}
        structure = compare_structure(first, second)
        assert structure.changed == (("a.w", "[4] float32", "[4] float16"),)
        assert not structure.same
        assert compare_weights(first, second, structure.shared, depth=1)[0].differing == 0

    def test_distances_are_those_of_all_values_of_a_module_together(self) -> None:
        first = {"m.a": torch.tensor([3.0, 4.0]), "m.b": torch.zeros(2)}
        second = {"m.a": torch.tensor([3.0, 4.0]), "m.b": torch.tensor([0.0, -1.0])}
        (line,) = compare_weights(first, second, ("m.a", "m.b"), depth=1)
        assert (line.name, line.parameters, line.differing, line.max_abs) == ("m", 4, 1, 1.0)
        assert line.relative == pytest.approx(0.2)

    def test_nan_is_never_lost_in_a_maximum(self) -> None:
        first, second = {"m.a": torch.zeros(2)}, {"m.a": torch.tensor([math.nan, 1.0])}
        (line,) = compare_weights(first, second, ("m.a",), depth=1)
        assert math.isnan(line.max_abs)

    def test_a_module_that_was_all_zero_is_infinitely_far(self) -> None:
        (line,) = compare_weights({"m.a": torch.zeros(2)}, {"m.a": torch.ones(2)}, ("m.a",), depth=1)
        assert line.relative == math.inf


class TestDifferencesThatRoundingWouldHide:
    @pytest.mark.parametrize(
        ("first", "second", "max_abs"),
        [
            (torch.tensor([1 << 24]), torch.tensor([(1 << 24) + 1]), 1.0),
            (torch.tensor([1 << 60]), torch.tensor([(1 << 60) + 1]), 1.0),
            (torch.tensor([-(1 << 63)]), torch.tensor([(1 << 63) - 1]), 2.0**64),
            (torch.tensor([0], dtype=torch.uint64), torch.tensor([-1]).view(torch.uint64), 2.0**64),
            (torch.tensor([1 << 31], dtype=torch.uint32), torch.tensor([0], dtype=torch.uint32), 2.0**31),
            (torch.tensor([1.0, 2.0]).double(), torch.tensor([1.0, 2.0]).double() + 1e-9, 1e-9),
            (torch.tensor([1 + 2j]), torch.tensor([1 + 3j]), 1.0),
            (torch.tensor([1 + 2j]), torch.tensor([4 - 2j]), 5.0),
            (torch.tensor([1 + 2j]).to(torch.complex128), torch.tensor([1 + 3j]).to(torch.complex128), 1.0),
            (torch.tensor([3e38]), torch.tensor([-3e38]), 6e38),
            (torch.tensor([True, False]), torch.tensor([True, True]), 1.0),
            (torch.tensor([1.0]).to(torch.float8_e4m3fn), torch.tensor([2.0]).to(torch.float8_e4m3fn), 1.0),
            (torch.tensor([1.0]), torch.tensor([1.0 + 1e-12], dtype=torch.float64), 1e-12),
        ],
    )
    def test_are_found(self, first: torch.Tensor, second: torch.Tensor, max_abs: float) -> None:
        (line,) = compare_weights({"m.a": first}, {"m.a": second}, ("m.a",), depth=1)
        assert line.differing >= 1
        assert line.max_abs == pytest.approx(max_abs, rel=1e-3)
        assert line.relative > 0

    @pytest.mark.parametrize(
        "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64]
    )
    def test_nan_and_infinity_of_the_same_bits_are_equal(self, dtype: torch.dtype) -> None:
        values = torch.tensor([math.nan, math.inf, -math.inf, 0.0, 1.0]).to(dtype)
        (line,) = compare_weights({"m.a": values}, {"m.a": values.clone()}, ("m.a",), depth=1)
        assert (line.differing, line.max_abs, line.relative) == (0, 0.0, 0.0)

    def test_beside_nan_of_the_same_bits_a_difference_is_still_measured(self) -> None:
        first, second = torch.tensor([math.nan, math.inf, 1.0]), torch.tensor([math.nan, math.inf, 1.5])
        (line,) = compare_weights({"m.a": first}, {"m.a": second}, ("m.a",), depth=1)
        assert (line.differing, line.max_abs) == (1, 0.5)

    def test_zero_is_negative_zero(self) -> None:
        (line,) = compare_weights({"m.a": torch.zeros(2)}, {"m.a": -torch.zeros(2)}, ("m.a",), depth=1)
        assert (line.differing, line.max_abs) == (0, 0.0)

    def test_are_shown_by_the_command(self, tmp_path: Path, inspect: Inspect) -> None:
        for name, value in (("a.pth", 1 << 24), ("b.pth", (1 << 24) + 1)):
            torch.save({"model_state_dict": {"m.a": torch.tensor([value, 5])}}, tmp_path / name)
        code, text = inspect(tmp_path / "a.pth", tmp_path / "b.pth", "--json")
        assert code == 0
        assert json.loads(text)["weights"][0]["differing"] == 1


@pytest.mark.parametrize(
    ("layout", "parameters"),
    [("pure", 1_703_973_122), ("hybrid-a", 1_859_579_651), ("hybrid-c", 1_859_579_651)],
)
def test_a_full_size_structure_is_read_without_its_weights(
    tmp_path: Path, layout: Any, parameters: int
) -> None:
    """The file has its full length, but holes where 7 GB of weights would be."""
    arch = sample_architecture(layout, "transformers", "full")
    state_dict = {name: torch.empty(shape) for name, shape in expected_tensors(arch).items()}
    path = tmp_path / "full.pth"
    with torch.serialization.skip_data():
        torch.save({"epoch": 4, "model_state_dict": state_dict, "args": argparse.Namespace(lr=1e-4)}, path)
    del state_dict
    assert path.stat().st_size > 6 << 30
    inspection = inspect_policy(read_stored(path))
    assert inspection.stored.recognised.architecture == arch
    assert inspection.tree.parameters == parameters


def test_parts_are_told_by_name() -> None:
    part_of = FAMILY.parts.kind_of
    assert part_of("kosmos_model.text_model") == "backbone"
    assert part_of("clip_model") == "backbone"
    assert [part_of(name) for name in ("rnn.weight_ih_l0", "feature_fusion", "actions", "actions.mlp.0")] == [
        "own"
    ] * 4
    assert part_of("policy.rnn") == ""


def test_a_tree_adds_up() -> None:
    tree = module_tree(
        {"a.b.w": torch.zeros(2, 3), "a.c": torch.zeros(4, dtype=torch.float16), "d": torch.zeros(())},
        FAMILY.parts,
    )
    assert (tree.parameters, tree.tensors, tree.size_bytes) == (11, 3, 36)
    assert tree.dtypes == {"float32": 7, "float16": 4}
    assert [child.name for child in tree.children] == ["a", "d"]
    assert tree.children[1].shape == ()
