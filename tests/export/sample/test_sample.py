from __future__ import annotations

import argparse
import hashlib
import math
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_edge.export.checkpoint.checkpoint import Checkpoint, read_checkpoint
from vla_edge.export.family import Recipe
from vla_edge.export.kosmos2.architecture import Architecture
from vla_edge.export.kosmos2.family import FAMILY
from vla_edge.export.kosmos2.sample.features import recipe
from vla_edge.export.kosmos2.sample.samples import is_trained, sample_of
from vla_edge.export.kosmos2.sample.sizes import SIZES, SizeName, sample_architecture
from vla_edge.export.kosmos2.sample.stream import Stream
from vla_edge.export.kosmos2.sample.tokenizer import build_tokenizer, write_tokenizer
from vla_edge.export.kosmos2.settings import LEFT, RIGHT, STRAIGHT
from vla_edge.export.kosmos2.settings_rules import RULES
from vla_edge.export.kosmos2.tensors import expected_tensors
from vla_edge.export.sample.cli import main
from vla_edge.export.sample.draw import CHUNK_VALUES, draw
from vla_edge.export.sample.sample import sample_size_bytes, write_sample
from vla_edge.export.sample.streamed_file import Hole, write_streamed
from vla_edge.runtime.errors import InputError, ResourceError

CheckpointOf = Callable[..., Path]


def load(path: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True, mmap=True)


def policy_of(checkpoint: Checkpoint) -> torch.nn.Module:
    arch = checkpoint.architecture
    return FAMILY.reference(arch, RULES.resolve(arch).values, checkpoint.tensors)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
    def test_the_same_seed_gives_the_same_values_and_another_seed_others(self, tmp_path: Path) -> None:
        for name, seed in (("a", 3), ("b", 3), ("c", 4)):
            (tmp_path / name).mkdir()
            write_sample(tmp_path / name / "x.pth", sample_of("pure", seed=seed))
        assert sha256(tmp_path / "a/x.pth") == sha256(tmp_path / "b/x.pth")
        assert sha256(tmp_path / "a/x.pth") != sha256(tmp_path / "c/x.pth")

    def test_shared_backbones_are_the_same_in_every_layout(self, checkpoint_of: CheckpointOf) -> None:
        name = "kosmos_model.text_model.model.layers.1.ffn.fc1.weight"
        assert torch.equal(
            load(checkpoint_of("pure"))["model_state_dict"][name],
            load(checkpoint_of("hybrid-b"))["model_state_dict"][name],
        )

    def test_chunks_do_not_change_the_values(self, monkeypatch: pytest.MonkeyPatch) -> None:
        how = Recipe(0.5, 1.0, rows={700: 3.0}, columns={5: 0.1})
        whole = np.concatenate(list(draw(how, "x", (900, 33), seed=1)))
        monkeypatch.setattr("vla_edge.export.sample.draw.CHUNK_VALUES", 1000)
        pieces = list(draw(how, "x", (900, 33), seed=1))
        assert len(pieces) == 30
        assert np.array_equal(np.concatenate(pieces), whole)

    def test_recipes_scale_rows_and_columns_and_fix_values(self) -> None:
        plain = np.concatenate(list(draw(Recipe(1.0), "x", (8, 4), seed=0)))
        scaled = np.concatenate(
            list(draw(Recipe(1.0, rows={2: 10.0}, columns={1: 0.5}), "x", (8, 4), seed=0))
        )
        assert scaled[2, 1] == pytest.approx(plain[2, 1] * 5)
        assert scaled[0, 1] == pytest.approx(plain[0, 1] * 0.5)
        vector = next(draw(Recipe(0.1, 2.0, fixed={3: -7.0}), "y", (6,), seed=0))
        assert vector[3] == -7.0
        assert np.delete(vector, 3) == pytest.approx(2.0, abs=1.0)


class TestWriting:
    def test_it_is_streamed(self) -> None:
        arch = sample_architecture("pure", "none", "full")
        name = "kosmos_model.text_model.model.embed_tokens.weight"
        shape = expected_tensors(arch)[name]
        first = next(draw(recipe(name, shape, arch), name, shape, seed=0))
        assert first.nbytes <= 4 * CHUNK_VALUES
        assert math.prod(shape) > 100 * CHUNK_VALUES

    def test_a_failure_leaves_nothing_behind(self, tmp_path: Path) -> None:
        def fail() -> Iterator[np.ndarray]:
            yield np.zeros(2, np.float32)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_streamed(
                tmp_path / "x.pth", {"a": torch.empty(4)}, [Hole(16, fail)], lambda size_bytes: None
            )
        assert list(tmp_path.iterdir()) == []

    def test_a_disk_that_is_too_small_is_told_before_anything_is_written(self, tmp_path: Path) -> None:
        hole = Hole(1 << 60, lambda: iter([]))
        with pytest.raises(ResourceError, match=r"MiB free; x\.pth needs 1099511627792 MiB") as error:
            write_streamed(tmp_path / "x.pth", {}, [hole], lambda size_bytes: None)
        assert "smaller --size" in error.value.hint
        assert list(tmp_path.iterdir()) == []

    def test_holes_must_be_those_of_the_container(self, tmp_path: Path) -> None:
        hole = Hole(8, lambda: iter([np.zeros(2, np.float32)]))
        with pytest.raises(ValueError, match="pickling order"):
            write_streamed(tmp_path / "x.pth", {"a": torch.empty(4)}, [hole], lambda size_bytes: None)

    def test_a_missing_folder_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="absent does not exist"):
            write_sample(tmp_path / "absent" / "x.pth", sample_of("pure"))

    def test_progress_counts_every_byte(self, tmp_path: Path) -> None:
        seen: list[int] = []
        options = sample_of("hybrid-b", "open_clip")
        write_sample(tmp_path / "x.pth", options, seen.append)
        assert sum(seen) == sample_size_bytes(options)


class TestEveryTensorHasARecipe:
    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize(
        ("layout", "form"), [("pure", "none"), ("hybrid-a", "transformers"), ("hybrid-c", "open_clip")]
    )
    def test_with_finite_scales(self, layout: Any, form: Any, size: SizeName) -> None:
        arch = sample_architecture(layout, form, size)
        for name, shape in expected_tensors(arch).items():
            how = recipe(name, shape, arch)
            extremes = [abs(how.mean) + 5 * how.std, *map(abs, how.fixed.values())]
            assert max(extremes) < 20_000, name
            assert how.std > 0 or name == "clip_model.logit_scale"

    def test_an_unknown_name_has_none(self) -> None:
        with pytest.raises(ValueError, match="no recipe for foo"):
            recipe("foo", (1,), sample_architecture("pure", "none", "tiny"))


class TestOutliersInTheStream:
    def test_a_full_decoder_reaches_the_thousands_and_grows(self) -> None:
        stream = Stream(width=2048, depth=24, mlp=8192, first_norm=False, inner_norms=True)
        assert stream.constant(stream.steps) > 1024
        assert stream.normal(stream.steps) > 4 * stream.normal(0)
        assert len(stream.outliers) == 16
        assert sum(stream.outliers.values()) == 0


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Eight different normalised images of tiny's size: float32 [8, 3, 112, 112]."""
    numbers = np.random.default_rng(0)
    coarse = torch.from_numpy(numbers.normal(size=(8, 3, 7, 7)).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, size=(112, 112), mode="bilinear")


def prompt(arch: Architecture, text: str) -> torch.Tensor:
    slots = " ".join(["<image>"] * arch.image_tokens)
    ids = build_tokenizer().encode(f"<s><image> {slots} </image> {text}", add_special_tokens=False).ids
    return torch.tensor([ids])


def run(policy: torch.nn.Module, images: torch.Tensor, text: str = STRAIGHT) -> dict[str, torch.Tensor]:
    """All images, one at a time; results in float32."""
    ids = prompt(policy.arch, text)  # type: ignore[arg-type]
    dtype = policy.rnn.weight_ih_l0.dtype  # type: ignore[union-attr]
    results = [
        policy(image[None].to(dtype), ids, torch.ones_like(ids), torch.tensor([0])) for image in images
    ]
    return {name: torch.cat([result[name].float().flatten(1) for result in results]) for name in results[0]}


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(((a - b).norm(dim=1) / b.norm(dim=1)).max())


class _Extremes:
    """The largest absolute values that hooks see, by kind of module."""

    def __init__(self, policy: torch.nn.Module) -> None:
        self.products = self.norm_inputs = 0.0
        for module in policy.modules():
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
                module.register_forward_hook(self._product)
            elif isinstance(module, torch.nn.LayerNorm):
                module.register_forward_hook(self._norm)

    def _product(self, module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        self.products = max(self.products, float(output.abs().max()))

    def _norm(self, module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        self.norm_inputs = max(self.norm_inputs, float(inputs[0].abs().max()))


class TestTheModelThatItIs:
    """In FP32 it behaves; in plain half precision it does not; with FP32 where it matters it does again."""

    @pytest.mark.parametrize("layout", ["pure", "hybrid-a", "hybrid-b", "hybrid-c"])
    def test_actions_are_sane_and_depend_on_the_image(
        self, checkpoint_of: CheckpointOf, layout: str, images: torch.Tensor
    ) -> None:
        checkpoint = read_checkpoint(checkpoint_of(layout))
        assert all(bool(torch.isfinite(tensor).all()) for tensor in checkpoint.tensors.values())
        policy = policy_of(checkpoint)
        actions = run(policy, images)["actions"]
        assert bool(torch.isfinite(actions).all())
        assert float(actions.abs().max()) < 1.5
        assert bool((actions.std(dim=0) > 0.03).all())

    def test_actions_depend_on_the_instruction(
        self, checkpoint_of: CheckpointOf, images: torch.Tensor
    ) -> None:
        checkpoint = read_checkpoint(checkpoint_of("pure"))
        policy = policy_of(checkpoint)
        left, right = (run(policy, images[:2], text)["actions"] for text in (LEFT, RIGHT))
        assert float((left - right).abs().max()) > 0.02

    def test_it_has_what_breaks_half_precision_within_what_mixed_precision_can_hold(
        self, checkpoint_of: CheckpointOf, images: torch.Tensor
    ) -> None:
        checkpoint = read_checkpoint(checkpoint_of("hybrid-a"))
        policy = policy_of(checkpoint)
        seen = _Extremes(policy)
        run(policy, images[:2])
        assert seen.norm_inputs**2 > 65504
        assert seen.norm_inputs < 4000
        assert seen.products < 20_000

    def test_plain_half_precision_hurts(self, checkpoint_of: CheckpointOf, images: torch.Tensor) -> None:
        checkpoint = read_checkpoint(checkpoint_of("pure"))
        full = run(policy_of(checkpoint), images)
        half = run(policy_of(checkpoint).half(), images)
        assert relative(half["text"], full["text"]) > 0.03

    def test_half_precision_weights_and_products_alone_do_not(
        self, checkpoint_of: CheckpointOf, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checkpoint = read_checkpoint(checkpoint_of("pure"))
        policy = policy_of(checkpoint)
        full = run(policy, images)

        def rounded(x: torch.Tensor) -> torch.Tensor:
            return x.half().float()

        def linear(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
            product = rounded(rounded(x) @ rounded(self.weight).T)
            return product if self.bias is None else rounded(product + rounded(self.bias))

        monkeypatch.setattr(torch.nn.Linear, "forward", linear)
        mixed = run(policy, images)
        assert relative(mixed["text"], full["text"]) < 0.01
        assert float((mixed["actions"] - full["actions"]).abs().max()) < 0.01


class TestTheTokenizer:
    def test_has_kosmos_2s_conventions(self) -> None:
        tokenizer = build_tokenizer()
        assert [tokenizer.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
        tags = [
            tokenizer.token_to_id(token)
            for token in ("</doc>", "<image>", "</image>", "<grounding>", "<patch_index_0000>")
        ]
        assert tags == [tags[0], tags[0] + 1, tags[0] + 2, tags[0] + 10, tags[0] + 11]
        assert tokenizer.get_vocab_size() == tags[-1] + 1024

    def test_fits_the_embedding_of_every_size(self) -> None:
        rows = [sample_architecture("pure", "none", size).text.vocabulary for size in SIZES]
        assert build_tokenizer().get_vocab_size() <= min(rows)

    @pytest.mark.parametrize("text", [STRAIGHT, LEFT, "Go straight to the cup", "wörld 🙂 日本 \t x"])
    def test_any_text_survives(self, text: str) -> None:
        tokenizer = build_tokenizer()
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.token_to_id("<unk>") not in ids
        assert tokenizer.decode(ids).split() == text.split()

    def test_instructions_are_words_not_bytes(self) -> None:
        assert build_tokenizer().encode(STRAIGHT, add_special_tokens=False).tokens == ["▁컵까지", "▁가세요"]

    def test_the_file_is_read_by_the_library_and_always_the_same(self, tmp_path: Path) -> None:
        from tokenizers import Tokenizer

        path = write_tokenizer(tmp_path / "tokenizer")
        first = path.read_bytes()
        assert path.name == "tokenizer.json"
        assert write_tokenizer(tmp_path / "tokenizer").read_bytes() == first
        assert Tokenizer.from_file(str(path)).encode(LEFT).ids[0] == 0


class TestTheCommand:
    def run(self, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["vla-sample", *arguments])
        with pytest.raises(SystemExit) as ending:
            main()
        return int(ending.value.code or 0)

    def test_writes_checkpoint_and_tokenizer_into_a_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert (
            self.run(
                monkeypatch, "--layout", "hybrid-b", "--clip-form", "open_clip", "-o", str(tmp_path / "demo")
            )
            == 0
        )
        assert (tmp_path / "demo/best_simple_clip_lstm_model.pth").is_file()
        assert (tmp_path / "demo/tokenizer/tokenizer.json").is_file()
        assert "for trying and testing only" in capsys.readouterr().out

    def test_prints_json(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "x.pth"
        assert self.run(monkeypatch, "--layout", "pure", "-o", str(path), "--no-tokenizer", "--json") == 0
        assert f'"{path}": {path.stat().st_size}' in capsys.readouterr().out
        assert not (tmp_path / "tokenizer").exists()

    def test_does_not_replace_a_file_unasked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "x.pth"
        path.write_text("precious")
        assert self.run(monkeypatch, "--layout", "pure", "-o", str(path)) == 2
        assert "x.pth exists" in capsys.readouterr().err
        assert path.read_text() == "precious"
        assert self.run(monkeypatch, "--layout", "pure", "-o", str(path), "--force") == 0
        assert path.stat().st_size > 1 << 20

    def test_does_not_replace_another_tokenizer_unasked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "tokenizer/tokenizer.json"
        path.parent.mkdir()
        path.write_text("the published one")
        asked = ("--layout", "pure", "-o", str(tmp_path))
        assert self.run(monkeypatch, *asked) == 2
        assert f"{path} exists and is not the sample's tokenizer" in capsys.readouterr().err
        assert path.read_text() == "the published one"
        assert list(tmp_path.iterdir()) == [path.parent]
        assert self.run(monkeypatch, *asked, "--force") == 0
        assert path.stat().st_size > 1 << 10

    @pytest.mark.parametrize("late", ["x.pth", "tokenizer/tokenizer.json"])
    @pytest.mark.parametrize("force", [False, True])
    def test_does_not_replace_unasked_what_came_while_it_wrote(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        late: str,
        force: bool,
    ) -> None:
        real, path = os.fsync, tmp_path / late

        def slow(descriptor: int) -> None:
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                path.write_text("precious")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", slow)
        asked = ("--layout", "pure", "-o", str(tmp_path / "x.pth"), *(["--force"] if force else []))
        assert self.run(monkeypatch, *asked) == (0 if force else 2)
        assert (path.read_bytes() == b"precious") != force
        if not force:
            assert f"{path} exists" in capsys.readouterr().err
        assert [item.name for item in tmp_path.rglob(".*")] == []

    def test_the_samples_tokenizer_that_came_while_it_wrote_is_as_good(self, tmp_path: Path) -> None:
        write_tokenizer(tmp_path)
        inode = (tmp_path / "tokenizer.json").stat().st_ino
        assert write_tokenizer(tmp_path, replace=False).stat().st_ino == inode

    def test_a_link_to_nowhere_is_in_the_way_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "x.pth").symlink_to("nowhere")
        assert self.run(monkeypatch, "--layout", "pure", "-o", str(tmp_path / "x.pth")) == 2
        assert "x.pth exists" in capsys.readouterr().err

    @pytest.mark.parametrize(
        "output", ["models.v2/", "models.v2//", "models.v2/.", "models.v2/new.d/", "plain"]
    )
    def test_a_name_that_can_only_be_a_folders_becomes_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
    ) -> None:
        assert self.run(monkeypatch, "--layout", "pure", "--no-tokenizer", "-o", f"{tmp_path}/{output}") == 0
        assert (tmp_path / output / "best_simple_lstm_model.pth").is_file()

    @pytest.mark.parametrize("mode", [0o333, 0o300])
    def test_into_a_folder_that_cannot_be_read_it_is_written_without_a_complaint(
        self, tmp_path: Path, mode: int
    ) -> None:
        drop = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs"]
        if os.getuid() != 0:
            drop = []
        elif subprocess.run([*drop, "true"], capture_output=True, check=False).returncode:
            pytest.skip("capabilities cannot be dropped here")
        folder = tmp_path / "box"
        folder.mkdir()
        folder.chmod(mode)
        command = [*drop, sys.executable, "-m", "vla_edge.export.sample.cli", "--layout", "pure"]
        done = subprocess.run(
            [*command, "-o", str(folder / "new.pth")], capture_output=True, text=True, timeout=60, check=False
        )
        folder.chmod(0o700)
        assert done.returncode == 0, done.stderr
        assert "rror" not in done.stderr
        assert sorted(item.name for item in folder.iterdir()) == ["new.pth", "tokenizer"]

    def test_a_second_checkpoint_shares_the_samples_tokenizer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_tokenizer(tmp_path / "tokenizer")
        assert self.run(monkeypatch, "--layout", "pure", "-o", str(tmp_path)) == 0

    @pytest.mark.parametrize("inside", ["policy", "policy/deeper/x.pth"])
    def test_a_file_where_a_folder_is_wanted_is_an_error_with_a_way_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], inside: str
    ) -> None:
        (tmp_path / "policy").write_text("a file")
        assert self.run(monkeypatch, "--layout", "pure", "-o", str(tmp_path / inside)) == 2
        error = capsys.readouterr().err
        assert f"{tmp_path / 'policy'} is not a folder" in error
        assert "Write elsewhere with -o" in error

    @pytest.mark.parametrize("form", ["open_clip", "transformers"])
    def test_a_form_of_clip_is_not_taken_for_a_policy_without_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: str
    ) -> None:
        path = tmp_path / "x.pth"
        assert self.run(monkeypatch, "--layout", "pure", "--clip-form", form, "-o", str(path)) == 2
        error = capsys.readouterr().err
        assert f"--clip-form {form} cannot be asked of a pure policy: it has no CLIP model." in error
        assert "--layout hybrid-a" in error
        assert list(tmp_path.iterdir()) == []

    def test_says_how_much_it_takes_before_it_writes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "full.pth"
        monkeypatch.setattr("vla_edge.export.sample.sample.write_sample", lambda *_: path.touch())
        assert self.run(monkeypatch, "--layout", "pure", "--size", "full", "-o", str(path)) == 0
        first = capsys.readouterr().err.splitlines()[0]
        assert re.fullmatch(rf"{path} will take 6\.\d\d GiB; [\d.]+ .iB free", first)

    def test_explains_itself(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(monkeypatch, "--help") == 0
        assert "Examples:" in capsys.readouterr().out


def test_two_writers_of_one_sample_do_not_meet(tmp_path: Path) -> None:
    """The slower one's file is whole, though the faster one's appeared while it was written."""
    path, faster = tmp_path / "a.pth", tmp_path / "faster.pth"
    write_sample(faster, sample_of("pure", seed=1))
    slower = tmp_path / "slower.pth"
    write_sample(slower, sample_of("pure", seed=2))
    done: list[int] = []

    def advance(size_bytes: int) -> None:
        if not done:
            done.append(size_bytes)
            write_sample(path, sample_of("pure", seed=1))

    write_sample(path, sample_of("pure", seed=2), advance)
    assert weights_of(path) == weights_of(slower) != weights_of(faster)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.pth", "faster.pth", "slower.pth"]


def weights_of(path: Path) -> list[bytes]:
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist() if "/data/" in name]
