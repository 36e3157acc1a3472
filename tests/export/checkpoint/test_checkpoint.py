from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vla_edge.export.checkpoint.checkpoint import SAMPLE_MARK, read_checkpoint, read_stored
from vla_edge.export.checkpoint.text_values import numbers_in
from vla_edge.export.kosmos2.settings_rules import action_normalisation
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.errors import CheckpointError

Rewritten = Callable[..., Path]
CheckpointOf = Callable[..., Path]


def problem_of(path: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(path)
    assert error.value.hint, "an error without what to do"
    assert error.value.exit_code == 2
    return f"{error.value.problem}\n{error.value.hint}"


class TestTheOwnersContainer:
    @pytest.mark.parametrize(
        ("layout", "form", "epoch", "val_mae"),
        [
            ("pure", "none", 4, 0.2220),
            ("hybrid-a", "transformers", 10, 0.2121),
            ("hybrid-c", "open_clip", 10, 0.2121),
        ],
    )
    def test_is_read_with_all_that_stands_beside_the_weights(
        self, checkpoint_of: CheckpointOf, layout: str, form: str, epoch: int, val_mae: float
    ) -> None:
        checkpoint = read_checkpoint(checkpoint_of(layout, form))
        assert checkpoint.architecture.layout == layout
        assert (checkpoint.epoch, checkpoint.val_mae) == (epoch, val_mae)
        assert checkpoint.container_keys == (
            "epoch",
            "model_state_dict",
            "optimizer_state_dict",
            "val_mae",
            "args",
        )
        assert checkpoint.state_dict_key == "model_state_dict"
        assert checkpoint.format == "torch zip"
        assert checkpoint.args["batch_size"] == 8
        assert checkpoint.optimizer is not None
        assert checkpoint.optimizer.tensors % 3 == 0
        assert checkpoint.weights_origin.startswith(f"sample: vla-sample 0.1.0 layout={layout}")

    def test_weights_are_mapped_not_read(self, checkpoint_of: CheckpointOf) -> None:
        path = checkpoint_of("pure")
        checkpoint = read_checkpoint(path)
        with open("/proc/self/maps") as maps:
            assert any(str(path) in line for line in maps)
        assert checkpoint.tensors["rnn.weight_ih_l0"].shape == (512, 192)

    def test_opening_changes_no_global_list_of_safe_classes(self, checkpoint_of: CheckpointOf) -> None:
        before = set(torch.serialization.get_safe_globals())
        read_checkpoint(checkpoint_of("pure"))
        new = set(torch.serialization.get_safe_globals()) - before
        # torch adds classes of its own as its modules are imported
        assert all(entry.__module__.startswith("torch") for entry in new), new


class TestTheSameFamily:
    @pytest.mark.parametrize("key", ["state_dict", "model"])
    def test_other_keys_for_the_state_dict(self, rewritten: Rewritten, key: str) -> None:
        path = rewritten(lambda container: {key: container["model_state_dict"], "epoch": 3})
        checkpoint = read_checkpoint(path)
        assert (checkpoint.state_dict_key, checkpoint.epoch, checkpoint.val_mae) == (key, 3, None)
        assert checkpoint.optimizer is None
        assert checkpoint.weights_origin == "checkpoint"

    def test_a_bare_state_dict(self, rewritten: Rewritten) -> None:
        checkpoint = read_checkpoint(rewritten(lambda container: container["model_state_dict"]))
        assert checkpoint.state_dict_key == ""
        assert checkpoint.container_keys == ()
        assert checkpoint.architecture.layout == "pure"

    @pytest.mark.parametrize(
        "prefix", ["module.", "model.", "_orig_mod.", "_orig_mod.module.", "model._orig_mod."]
    )
    def test_prefixes_of_wrappers_are_stripped(self, rewritten: Rewritten, prefix: str) -> None:
        def wrap(container: dict[str, Any]) -> dict[str, Any]:
            return {
                "state_dict": {
                    f"{prefix}{name}": tensor for name, tensor in container["model_state_dict"].items()
                }
            }

        checkpoint = read_checkpoint(rewritten(wrap))
        assert checkpoint.prefix == prefix
        assert "rnn.weight_ih_l0" in checkpoint.tensors

    @pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "_fsdp_wrapped_module"])
    def test_wrappers_of_parts_are_stripped_inside_of_names(self, rewritten: Rewritten, wrapper: str) -> None:
        def wrap(container: dict[str, Any]) -> None:
            container["model_state_dict"] = {
                f"policy.{name.replace('rnn.', f'rnn.{wrapper}.')}": tensor
                for name, tensor in container["model_state_dict"].items()
            }

        checkpoint = read_checkpoint(rewritten(wrap))
        assert checkpoint.architecture.layout == "pure"
        assert checkpoint.prefix == f"{wrapper}."

    def test_names_that_only_a_wrapper_tells_apart_are_left_over(self, rewritten: Rewritten) -> None:
        def add(container: dict[str, Any]) -> None:
            tensors = container["model_state_dict"]
            tensors["module.rnn.weight_ih_l0"] = tensors["rnn.weight_ih_l0"]

        assert "left over (1):\n  module.rnn.weight_ih_l0" in problem_of(rewritten(add))

    @pytest.mark.parametrize("counter", ["n_averaged", "steps", "num_updates"])
    def test_an_averaged_model_is_read_without_its_counter(self, rewritten: Rewritten, counter: str) -> None:
        def average(container: dict[str, Any]) -> None:
            weights = {f"module.{name}": tensor for name, tensor in container["model_state_dict"].items()}
            container["model_state_dict"] = {counter: torch.tensor(7), **weights}

        checkpoint = read_checkpoint(rewritten(average))
        assert (checkpoint.prefix, checkpoint.dropped) == ("module.", (counter,))

    def test_a_lightning_checkpoint(self, rewritten: Rewritten) -> None:
        def wrap(container: dict[str, Any]) -> dict[str, Any]:
            return {
                "epoch": 7,
                "global_step": 100,
                "pytorch-lightning_version": "2.4.0",
                "state_dict": {
                    f"model.{name}": tensor for name, tensor in container["model_state_dict"].items()
                },
                "optimizer_states": [container["optimizer_state_dict"]],
                "hyper_parameters": {"lr": 1e-4},
            }

        checkpoint = read_checkpoint(rewritten(wrap, name="last.ckpt"))
        assert (checkpoint.prefix, checkpoint.epoch) == ("model.", 7)
        assert checkpoint.optimizer is not None
        assert checkpoint.extra["hyper_parameters"] == {"lr": 1e-4}

    def test_a_safetensors_file(self, tmp_path: Path, checkpoint_of: CheckpointOf) -> None:
        from safetensors.torch import save_file

        path = tmp_path / "policy.safetensors"
        original = read_checkpoint(checkpoint_of("hybrid-b"))
        save_file(dict(original.tensors), path, metadata={"note": "converted"})
        checkpoint = read_checkpoint(path)
        assert checkpoint.format == "safetensors"
        assert checkpoint.architecture == original.architecture
        assert checkpoint.extra == {"note": "converted"}
        assert torch.equal(checkpoint.tensors["rnn.bias_ih_l0"], original.tensors["rnn.bias_ih_l0"])

    def test_stale_buffers_are_dropped_and_reported(self, rewritten: Rewritten) -> None:
        stale = "kosmos_model.vision_model.model.embeddings.position_ids"

        def add(container: dict[str, Any]) -> None:
            container["model_state_dict"][stale] = torch.arange(50)[None]

        checkpoint = read_checkpoint(rewritten(add))
        assert checkpoint.dropped == (stale,)
        assert stale not in checkpoint.tensors

    def test_half_precision_weights_keep_their_dtype(self, rewritten: Rewritten) -> None:
        def halve(container: dict[str, Any]) -> dict[str, Any]:
            return {
                "model": {name: tensor.bfloat16() for name, tensor in container["model_state_dict"].items()}
            }

        assert {tensor.dtype for tensor in read_checkpoint(rewritten(halve)).tensors.values()} == {
            torch.bfloat16
        }

    def test_what_training_scripts_store_beside_the_weights_becomes_plain_values(
        self, rewritten: Rewritten
    ) -> None:
        def add(container: dict[str, Any]) -> None:
            container["val_mae"] = np.float64(0.25)
            container["epoch"] = torch.tensor(9)
            container["args"] = argparse.Namespace(
                out=pathlib.PosixPath("/data/out"), seed=np.int64(3), nested={"a": (1, 2)}
            )
            container["action_mean"] = torch.tensor([0.5, -0.5])
            container["action_std"] = np.array([1.0, 2.0], np.float32)
            container["scheduler_state_dict"] = {"last_epoch": 9}
            container["loss"] = 0.125
            container["config"] = {"table": torch.zeros(4, 8)}

        checkpoint = read_checkpoint(rewritten(add))
        assert (checkpoint.epoch, checkpoint.val_mae) == (9, 0.25)
        assert checkpoint.args == {"out": "/data/out", "seed": 3, "nested": {"a": [1, 2]}}
        assert checkpoint.extra == {
            "action_mean": [0.5, -0.5],
            "action_std": [1.0, 2.0],
            "scheduler_state_dict": {"last_epoch": 9},
            "loss": 0.125,
            "config": {"table": "tensor [4, 8] float32"},
        }


class TestFilesThatAreNoCheckpoints:
    def test_missing(self, tmp_path: Path) -> None:
        assert "nothing.pth does not exist" in problem_of(tmp_path / "nothing.pth")

    def test_a_folder(self, tmp_path: Path) -> None:
        assert "is not a file" in problem_of(tmp_path)

    def test_empty(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.pth"
        path.touch()
        assert "empty.pth is empty" in problem_of(path)

    @pytest.mark.parametrize("kept", [0.3, 0.9, 0.9999])
    def test_truncated(self, tmp_path: Path, checkpoint_of: CheckpointOf, kept: float) -> None:
        whole = checkpoint_of("pure").read_bytes()
        path = tmp_path / "cut.pth"
        path.write_bytes(whole[: int(len(whole) * kept)])
        problem = problem_of(path)
        assert "cut.pth is incomplete or damaged" in problem
        assert "failed finding central directory" in problem
        assert f"{path.stat().st_size:,} bytes" in problem
        assert "copy that was cut short" in problem
        assert "sha256sum" in problem

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"just some text, long enough to be looked at", "is not a checkpoint (43 bytes)"),
            (b"\x89PNG\r\n\x1a\n" + bytes(40), "looks like a PNG image"),
            (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        ],
    )
    def test_other_files(self, tmp_path: Path, content: bytes, words: str) -> None:
        path = tmp_path / "other.pth"
        path.write_bytes(content)
        problem = problem_of(path)
        assert words in problem
        assert "written by torch.save" in problem

    def test_a_zip_without_a_pickle(self, tmp_path: Path) -> None:
        path = tmp_path / "photos.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("photo.txt", "hello")
        assert "is a zip archive, but no torch checkpoint" in problem_of(path)

    def test_a_torchscript_program(self, tmp_path: Path) -> None:
        path = tmp_path / "script.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("script/data.pkl", b"\x80\x02}.")
            archive.writestr("script/constants.pkl", b"\x80\x02).")
        assert "is a TorchScript program" in problem_of(path)

    def test_a_checkpoint_packed_again_with_compression(
        self, tmp_path: Path, checkpoint_of: CheckpointOf
    ) -> None:
        """torch would map the compressed bytes as weights and say nothing."""
        path = tmp_path / "packed.pth"
        with (
            zipfile.ZipFile(checkpoint_of("pure")) as source,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
        ):
            for entry in source.infolist():
                target.writestr(entry.filename, source.read(entry))
        assert "was packed again with compression" in problem_of(path)

    def test_a_name_that_the_system_refuses(self, tmp_path: Path) -> None:
        assert "cannot be read: File name too long" in problem_of(tmp_path / ("x" * 300))

    def test_the_format_from_before_torch_1_6(self, tmp_path: Path) -> None:
        path = tmp_path / "old.pth"
        torch.save({"state_dict": {"a": torch.zeros(2)}}, path, _use_new_zipfile_serialization=False)
        problem = problem_of(path)
        assert "format from before 1.6" in problem
        assert "Re-save it once, without running anything of it: " in problem

    def test_what_it_advises_for_the_format_from_before_torch_1_6_works(self, tmp_path: Path) -> None:
        args = argparse.Namespace(lr=1e-4, data=["a"])
        path = tmp_path / "old.pth"
        content = {"model_state_dict": {"w": torch.ones(2)}, "args": args}
        torch.save(content, path, _use_new_zipfile_serialization=False)
        with pytest.raises(CheckpointError) as error:
            read_stored(path)
        advised = error.value.hint.split("anything of it: ")[1]
        assert "weights_only=True" in advised
        subprocess.run([sys.executable, "-c", advised], cwd=tmp_path, check=True, timeout=120)
        stored = read_stored(tmp_path / "new.pth")
        assert stored.tensors["w"].tolist() == [1, 1]
        assert stored.args == {"lr": 1e-4, "data": ["a"]}

    def test_a_damaged_pickle(self, tmp_path: Path, checkpoint_of: CheckpointOf) -> None:
        path = tmp_path / "damaged.pth"
        data = bytearray(checkpoint_of("pure").read_bytes())
        at = data.index(b"model_state_dict")
        data[at - 40 : at] = b"\xff" * 40
        path.write_bytes(data)
        assert "is damaged" in problem_of(path)

    @pytest.mark.parametrize("content", [b"\x08" + bytes(7) + b"{}", b"\xff" * 40])
    def test_a_damaged_safetensors_file(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "cut.safetensors"
        path.write_bytes(content)
        assert "incomplete or damaged safetensors file" in problem_of(path)

    @pytest.mark.parametrize("shape", [[0, 2**64 - 1], [0, 2**63], [2**63, 0]])
    def test_safetensors_with_a_shape_that_torch_cannot_hold(self, tmp_path: Path, shape: list[int]) -> None:
        path = tmp_path / "a.safetensors"
        path.write_bytes(safetensors_of({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}))
        assert "incomplete or damaged safetensors file" in problem_of(path)

    @pytest.mark.parametrize(("dtype", "name"), [("F4", "float4_e2m1fn_x2")])
    def test_safetensors_of_a_dtype_without_plain_values(self, tmp_path: Path, dtype: str, name: str) -> None:
        path = tmp_path / "a.safetensors"
        entry = {"dtype": dtype, "shape": [8], "data_offsets": [0, 4]}
        path.write_bytes(safetensors_of({"w": entry}, bytes(4)))
        assert f"holds 1 values that are no plain tensors: w (a tensor of {name})" in problem_of(path)

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data(), in_directory=st.booleans())
    def test_no_damage_gives_anything_but_a_clean_error(
        self, tmp_path: Path, checkpoint_of: CheckpointOf, data: st.DataObject, in_directory: bool
    ) -> None:
        """Four bytes of the pickle or of the zip's directory are overwritten."""
        content = bytearray(checkpoint_of("pure").read_bytes())
        end_of_pickle, directory = content.index(b"PK\x03\x04", 4), content.index(b"PK\x01\x02")
        bounds = (directory, len(content) - 4) if in_directory else (0, end_of_pickle)
        at = data.draw(st.integers(*bounds))
        content[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
        path = tmp_path / "fuzzed.pth"
        path.write_bytes(content)
        problem = ""
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            problem = error.problem
        assert not problem or "fuzzed.pth" in problem


def safetensors_of(header: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


class TestTextBesideSafetensors:
    def test_named_as_the_weights_does_not_take_their_place(self, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        metadata = {"state_dict": "text", "model_state_dict": "text", "note": "text"}
        save_file({"w": torch.ones(1)}, tmp_path / "a.safetensors", metadata=metadata)
        stored = read_stored(tmp_path / "a.safetensors")
        assert stored.tensors["w"].tolist() == [1]
        assert stored.extra == {"metadata.state_dict": "text", "model_state_dict": "text", "note": "text"}

    @pytest.mark.parametrize("levels", [30, 900, 50_000])
    @pytest.mark.parametrize("opening", ["[", '{"a":'])
    def test_nested_without_end_is_cut(self, tmp_path: Path, levels: int, opening: str) -> None:
        from safetensors.torch import save_file

        closing = "]" if opening == "[" else "1}"
        closing = closing + closing[-1] * (levels - 1)
        args = '{"a":' + opening * levels + closing + "}"
        save_file({"w": torch.ones(1)}, tmp_path / "a.safetensors", metadata={"args": args})
        stored = read_stored(tmp_path / "a.safetensors")
        assert json_text(stored.args)


class _Attack:
    """Runs a shell command when unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


class TestFilesThatWantToRunCode:
    def test_a_checkpoint_is_refused_and_nothing_is_run(self, tmp_path: Path, rewritten: Rewritten) -> None:
        sentinel = tmp_path / "was_run"
        problem = problem_of(
            rewritten(lambda container: container.update(extra=_Attack(f"touch {sentinel}")))
        )
        assert "is refused" in problem
        assert f"{os.system.__module__}.system" in problem
        assert "Nothing of it was run" in problem
        assert not sentinel.exists()

    def test_a_bare_pickle_is_refused_and_nothing_is_run(self, tmp_path: Path) -> None:
        sentinel = tmp_path / "was_run"
        path = tmp_path / "evil.pkl"
        path.write_bytes(pickle.dumps({"state_dict": _Attack(f"touch {sentinel}")}))
        assert "it is a bare pickle" in problem_of(path)
        assert not sentinel.exists()

    def test_the_sentinel_would_have_shown_it(self, tmp_path: Path) -> None:
        sentinel = tmp_path / "was_run"
        pickle.loads(pickle.dumps(_Attack(f"touch {sentinel}")))
        assert sentinel.exists()

    def test_a_whole_module_is_refused_by_name_with_the_way_out(self, tmp_path: Path) -> None:
        path = tmp_path / "module.pth"
        torch.save(torch.nn.Linear(2, 2), path)
        problem = problem_of(path)
        assert "torch.nn.modules.linear.Linear" in problem
        assert 'torch.save({"model_state_dict": model.state_dict()}' in problem


class TestContentThatDoesNotFit:
    def test_no_state_dict_lists_what_is_there(self, rewritten: Rewritten) -> None:
        problem = problem_of(rewritten(lambda container: {"epoch": 1, "weights": [torch.zeros(1)]}))
        assert "holds no state dict: it has no model_state_dict, state_dict, model" in problem
        assert "epoch (int), weights (list)" in problem

    def test_something_that_is_no_dictionary(self, rewritten: Rewritten) -> None:
        assert "holds a list, not a dictionary" in problem_of(rewritten(lambda container: [torch.zeros(1)]))

    def test_a_missing_key_is_listed_with_the_file(self, rewritten: Rewritten) -> None:
        def drop(container: dict[str, Any]) -> None:
            del container["model_state_dict"]["actions.mlp.2.bias"]

        path = rewritten(drop)
        problem = problem_of(path)
        assert problem.startswith(str(path))
        assert "missing (1):\n  actions.mlp.2.bias" in problem

    def test_an_unknown_layout(self, rewritten: Rewritten) -> None:
        path = rewritten(lambda container: {"state_dict": {"backbone.weight": torch.zeros(2, 2)}})
        assert "Unknown layout: no kosmos_model.*" in problem_of(path)
        assert read_stored(path).shapes == {"backbone.weight": (2, 2)}

    def test_tensors_of_integers(self, rewritten: Rewritten) -> None:
        def quantise(container: dict[str, Any]) -> None:
            tensors = container["model_state_dict"]
            tensors["rnn.weight_hh_l0"] = tensors["rnn.weight_hh_l0"].char()

        problem = problem_of(rewritten(quantise))
        assert (
            "1 tensors are not of floating point, 16 bits or more: rnn.weight_hh_l0 (torch.int8)" in problem
        )
        assert "Quantised checkpoints are not supported" in problem


class TestContentThatIsOddOnPurpose:
    @pytest.mark.parametrize("epoch", [math.nan, math.inf, torch.tensor(-math.inf)])
    def test_an_epoch_that_is_no_number_is_none(self, rewritten: Rewritten, epoch: Any) -> None:
        assert read_stored(rewritten(lambda container: container.update(epoch=epoch))).epoch is None

    def test_a_name_of_too_many_parts_is_refused_with_its_start(self, rewritten: Rewritten) -> None:
        deep = "a" + ".a" * 3000
        problem = problem_of(rewritten(lambda container: {"state_dict": {deep: torch.zeros(1)}}))
        assert "changed.pth: the tensor name a.a.a" in problem
        assert "has 3001 parts between dots, at most 100 are read" in problem

    def test_names_that_command_a_terminal_are_printed_harmlessly(self, rewritten: Rewritten) -> None:
        def add(container: dict[str, Any]) -> None:
            container["model_state_dict"]["\x1b[2Jnose"] = torch.zeros(1)
            container["args"] = {SAMPLE_MARK: "\x1b]0;owned\x07"}

        path = rewritten(add)
        assert "left over (1):\n  \\x1b[2Jnose" in problem_of(path)
        assert read_stored(path).weights_origin == "sample: \\x1b]0;owned\\x07"


class TestWhatIsNoPlainTensor:
    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            (None, "None"),
            ({"a": 1}, "dict"),
            (torch.empty(3, device="meta"), "a tensor on the meta device, without values"),
            (torch.eye(3).to_sparse(), "a sparse tensor"),
            (torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8), "a quantised tensor"),
        ],
        ids=["None", "dict", "meta", "sparse", "quantised"],
    )
    @pytest.mark.parametrize("key", ["model_state_dict", ""])
    def test_is_named_alone(self, rewritten: Rewritten, value: Any, kind: str, key: str) -> None:
        def add(container: dict[str, Any]) -> Any:
            container["model_state_dict"]["rnn._extra_state"] = value
            return None if key else container["model_state_dict"]

        problem = problem_of(rewritten(add))
        assert f"holds 1 values that are no plain tensors: rnn._extra_state ({kind})" in problem
        assert "kosmos_model" not in problem


class TestTensorsThatNoPolicyReads:
    def test_a_text_head_is_dropped(self, rewritten: Rewritten) -> None:
        head, table = (f"kosmos_model.text_model.{name}.weight" for name in ("lm_head", "model.embed_tokens"))

        def tie(container: dict[str, Any]) -> None:
            container["model_state_dict"][head] = container["model_state_dict"][table]

        assert read_checkpoint(rewritten(tie)).dropped == (head,)

    @pytest.mark.parametrize("shape", [(), (1,)])
    def test_a_temperature_of_one_value_is_a_scalar(self, rewritten: Rewritten, shape: tuple) -> None:
        def reshape(container: dict[str, Any]) -> None:
            tensors = container["model_state_dict"]
            tensors["clip_model.logit_scale"] = tensors["clip_model.logit_scale"].reshape(shape)

        checkpoint = read_checkpoint(rewritten(reshape, layout="hybrid-a"))
        assert checkpoint.tensors["clip_model.logit_scale"].shape == ()


def half_of(weights: Any) -> dict[str, Any]:
    return {name: tensor * 0.5 for name, tensor in weights.items()}


class TestOtherWeights:
    """A training run that averages keeps two sets; which one is taken is said, and can be chosen."""

    @pytest.mark.parametrize(
        ("beside", "key"),
        [
            (lambda weights: {"ema_state_dict": half_of(weights)}, "ema_state_dict"),
            (lambda weights: {"ema": {"decay": 0.9, "state_dict": half_of(weights)}}, "ema.state_dict"),
            (lambda weights: {"state_dict_ema": half_of(weights)}, "state_dict_ema"),
            (
                lambda weights: {
                    "swa": {"n_averaged": torch.tensor(3)}
                    | {f"module.{name}": tensor for name, tensor in half_of(weights).items()}
                },
                "swa",
            ),
            (lambda weights: {"model": half_of(weights)}, "model"),
        ],
    )
    def test_are_found_by_their_names_and_taken_when_asked_for(
        self, rewritten: Rewritten, beside: Callable[[Any], Any], key: str
    ) -> None:
        path = rewritten(lambda container: container.update(beside(container["model_state_dict"])))
        usual, other = read_checkpoint(path), read_checkpoint(path, weights=key)
        assert (usual.state_dict_key, usual.other_weights) == ("model_state_dict", (key,))
        assert (other.state_dict_key, other.other_weights) == (key, ("model_state_dict",))
        name = "rnn.weight_ih_l0"
        assert torch.equal(other.tensors[name], usual.tensors[name] * 0.5)
        assert len(repr(usual.extra)) < 1000

    @pytest.mark.parametrize(
        ("trained", "averaged", "key"),
        [
            ("model.", "ema_model.module.", "model_state_dict.ema_model"),
            ("", "ema.", "model_state_dict.ema"),
            ("online_model.", "ema_model.", "model_state_dict.ema_model"),
        ],
    )
    def test_in_the_same_state_dict_are_told_apart(
        self, rewritten: Rewritten, trained: str, averaged: str, key: str
    ) -> None:
        def add(container: dict[str, Any]) -> None:
            weights = container["model_state_dict"]
            both = {f"{trained}{name}": tensor for name, tensor in weights.items()}
            both |= {f"{averaged}{name}": tensor for name, tensor in half_of(weights).items()}
            both[f"{averaged.split('.')[0]}.n_averaged"] = torch.tensor(5)
            container["model_state_dict"] = both

        path = rewritten(add)
        usual, other = read_checkpoint(path), read_checkpoint(path, weights=key)
        place = f"model_state_dict.{trained}".removesuffix(".")
        assert (usual.state_dict_key, usual.other_weights) == (place, (key,))
        assert (other.state_dict_key, other.other_weights) == (key, (place,))
        name = "rnn.weight_ih_l0"
        assert torch.equal(other.tensors[name], usual.tensors[name] * 0.5)

    def test_of_which_none_is_known_as_the_trained_one_have_to_be_chosen(self, rewritten: Rewritten) -> None:
        def add(container: dict[str, Any]) -> Any:
            weights = container["model_state_dict"]
            return {f"{front}.{name}": weights[name] for front in ("student", "teacher") for name in weights}

        path = rewritten(add)
        assert "holds 2 policies: student, teacher" in problem_of(path)
        student = read_checkpoint(path, weights="student")
        assert (student.architecture.layout, student.container_keys, student.extra) == ("pure", (), {})

    def test_without_names_are_told_and_refused(self, rewritten: Rewritten) -> None:
        def add(container: dict[str, Any]) -> None:
            weights = list(half_of(container["model_state_dict"]).values())
            container["ema"] = {"decay": 0.9, "shadow_params": weights}

        path = rewritten(add)
        assert read_checkpoint(path).other_weights == ("ema.shadow_params",)
        with pytest.raises(
            CheckpointError, match=r"ema\.shadow_params holds \d+ tensors without names"
        ) as error:
            read_checkpoint(path, weights="ema.shadow_params")
        assert "ema.copy_to(model.parameters())" in error.value.hint

    def test_an_unknown_key_is_refused_with_those_that_are_there(self, rewritten: Rewritten) -> None:
        path = rewritten(lambda container: None)
        with pytest.raises(
            CheckpointError, match="has no weights under 'ema'; it has tensors under: model_state_dict"
        ):
            read_checkpoint(path, weights="ema")

    def test_an_optimizer_and_other_tensors_are_none(self, rewritten: Rewritten) -> None:
        path = rewritten(
            lambda container: container.update(rng=[torch.zeros(5)] * 2, loss={"w": torch.ones(2)})
        )
        assert read_checkpoint(path).other_weights == ()

    def test_alone_under_another_key_are_offered(self, rewritten: Rewritten) -> None:
        path = rewritten(lambda container: {"net": container["model_state_dict"], "epoch": 3})
        assert "It has tensors under net: --weights KEY takes them" in problem_of(path)
        assert read_checkpoint(path, weights="net").epoch == 3


class TestValuesKeptAsText:
    """safetensors' metadata is text alone."""

    @pytest.mark.parametrize(
        ("metadata", "epoch", "val_mae"),
        [
            ({"epoch": "7", "val_mae": "0.25"}, 7, 0.25),
            ({"epoch": " 7.0 ", "val_mae": "2.5e-1"}, 7, 0.25),
            ({"epoch": "seven", "val_mae": ""}, None, None),
            ({"epoch": "9" * 30, "val_mae": "nan"}, None, None),
        ],
    )
    def test_numbers_are_read(self, tmp_path: Path, metadata: dict, epoch: Any, val_mae: Any) -> None:
        from safetensors.torch import save_file

        save_file({"w": torch.zeros(1)}, tmp_path / "a.safetensors", metadata=metadata)
        stored = read_stored(tmp_path / "a.safetensors")
        assert (stored.epoch, stored.val_mae) == (epoch, val_mae)

    def test_arguments_are_read_and_a_sample_stays_one(self, tmp_path: Path) -> None:
        from safetensors.torch import save_file

        metadata = {"args": f'{{"lr": 0.1, "{SAMPLE_MARK}": "made"}}'}
        save_file({"w": torch.zeros(1)}, tmp_path / "a.safetensors", metadata=metadata)
        stored = read_stored(tmp_path / "a.safetensors")
        assert stored.args["lr"] == 0.1
        assert stored.weights_origin == "sample: made"

    @pytest.mark.parametrize(
        "text",
        [
            "[1.0, 2.5]",
            "(1., 2.5)",
            "1 2.5",
            "1.0,2.5",
            "tensor([1.0000, 2.5000])",
            "array([1. , 2.5], dtype=float32)",
        ],
    )
    def test_lists_are_read(self, text: str) -> None:
        assert action_normalisation({"action_std": numbers_in(text)}) == {"action_scale": [1.0, 2.5]}

    @pytest.mark.parametrize("text", ["one", "[1.0, two]", "", "[nan, 1.0]", "1e999999"])
    def test_what_is_no_list_of_numbers_is_refused(self, text: str) -> None:
        with pytest.raises(CheckpointError, match=r"action_std is .*no finite numbers"):
            action_normalisation({"action_std": numbers_in(text)})
