"""Planted truth: settings that were drawn at random are found again, and never other ones."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import planted_settings
import pytest
import torch
from msgspec.structs import replace
from planted_settings import Draw, Quiet, drive, is_truth, planted, searched, token_ids
from safetensors.numpy import load, save

from vla_edge.export.checkpoint.checkpoint import read_checkpoint
from vla_edge.export.kosmos2.family import FAMILY
from vla_edge.export.search.features.features import Forecast
from vla_edge.export.search.features.kept import KeptFile, computed_by
from vla_edge.export.search.scan import Evaluator
from vla_edge.export.search.search import Outcome, SearchOptions, find_settings
from vla_edge.runtime.episodes.episode import Actions
from vla_edge.runtime.errors import CheckpointError, InputError, ResourceError
from vla_edge.runtime.files.cache_file import CacheFile


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> tuple[Draw, Outcome]:
    folder = tmp_path_factory.mktemp("pure")
    draw = planted(folder, 4, layout="pure")
    return draw, searched(draw, folder / "cache")


def test_the_settings_of_a_pure_policy_are_found(pure: tuple[Draw, Outcome]) -> None:
    draw, outcome = pure
    assert outcome.verdict.kind == "found"
    (best,) = outcome.verdict.fits
    assert is_truth(draw, outcome.space[best.at])
    assert best.distance < 1e-6
    assert outcome.agreement.settled["pooling"] == draw.settings.pooling


@pytest.mark.parametrize(("layout", "seed"), [("hybrid-b", 8), ("hybrid-c", 4)])
def test_the_settings_of_hybrids_are_found(tmp_path: Path, layout: str, seed: int) -> None:
    draw = planted(tmp_path, seed, layout=layout)
    outcome = searched(draw, tmp_path / "cache")
    assert outcome.verdict.kind == "found"
    assert is_truth(draw, outcome.space[outcome.verdict.fits[0].at])


def test_settings_that_were_not_tried_are_not_mistaken_for_others(tmp_path: Path) -> None:
    draw = planted(tmp_path, 7, outside=True, layout="pure")
    assert searched(draw, tmp_path / "cache").verdict.kind != "found"


def test_a_random_fifth_leaves_the_truth_among_what_fits(tmp_path: Path) -> None:
    draw = planted(tmp_path, 3, fifth=True, layout="hybrid-b")
    outcome = searched(draw, tmp_path / "cache")
    assert outcome.verdict.kind == "several"
    assert any(is_truth(draw, outcome.space[at]) for at in outcome.verdict.fitting)


def test_what_the_search_computes_is_what_the_reference_answers(pure: tuple[Draw, Outcome]) -> None:
    """Every way of the LSTM, and the rest drawn: each step of each episode against calls one after another."""
    draw, outcome = pure
    checkpoint = read_checkpoint(draw.path)
    evaluator = evaluator_of(draw, outcome)
    ids = token_ids(checkpoint.architecture, draw.settings, draw.path)
    rng = np.random.default_rng(0)
    ways: dict[Any, Any] = {}
    for at in rng.permutation(len(outcome.space)):
        settings = outcome.space[at]
        ways.setdefault((settings.lstm, settings.lstm_outputs, settings.frame, settings.final_tanh), settings)
    assert len(ways) == 16
    for settings in ways.values():
        policy = FAMILY.reference(checkpoint.architecture, settings, checkpoint.tensors)
        ids = token_ids(checkpoint.architecture, settings, draw.path)
        (found,) = evaluator.answers([settings])
        for row, episode in zip(found, draw.episodes[:2], strict=False):
            alone = drive(policy, settings, episode, ids, checkpoint.architecture.vision.image_size)
            torch.testing.assert_close(row, alone, rtol=0, atol=2e-5)


def test_an_image_beside_its_place_is_computed_as_the_reference_does(pure: tuple[Draw, Outcome]) -> None:
    draw, outcome = pure
    checkpoint = read_checkpoint(draw.path)
    settings = outcome.base
    moved = replace(settings, image_start=1, features=("text",))
    ids = token_ids(checkpoint.architecture, settings, draw.path)
    found = []
    for each in (settings, moved):
        evaluator = evaluator_of(draw, dataclasses.replace(outcome, space=(each,)))
        (answer,) = evaluator.answers([each])
        policy = FAMILY.reference(checkpoint.architecture, each, checkpoint.tensors)
        episode = draw.episodes[0]
        alone = drive(policy, each, episode, ids, checkpoint.architecture.vision.image_size)
        torch.testing.assert_close(answer[0], alone, rtol=0, atol=2e-5)
        found.append(answer)
    assert not torch.equal(*found)


def test_an_interrupted_search_goes_on_where_it_was(
    pure: tuple[Draw, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, _ = pure
    cache, runs = tmp_path / "cache", counted_runs(monkeypatch, stop_at=11)
    with pytest.raises(KeyboardInterrupt):
        searched(draw, cache)
    kept = {path.name: path.read_bytes() for path in cache.iterdir()}
    assert len(kept) == 10
    runs[0] = 100
    outcome = searched(draw, cache)
    # the one that was interrupted again, and none that was kept
    assert runs[0] - 100 == len(draw.episodes) * 8 - 10
    assert outcome.verdict.kind == "found"
    assert all((cache / name).read_bytes() == content for name, content in kept.items())
    again = counted_runs(monkeypatch)
    searched(draw, cache)
    assert again[0] == 0


def test_a_damaged_feature_is_computed_anew(
    pure: tuple[Draw, Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    draw, _ = pure
    before = searched(draw, tmp_path)
    some = sorted(tmp_path.iterdir())[3]
    some.write_bytes(some.read_bytes()[:-1] + b"?")
    runs = counted_runs(monkeypatch)
    after = searched(draw, tmp_path)
    assert runs[0] == 1
    assert "is damaged" in caplog.text
    assert [fit.mae for fit in after.verdict.fits] == [fit.mae for fit in before.verdict.fits]


FOREIGN = (
    b"not of this form",
    save({"vision": np.zeros((3, 8), np.float32)}),  # of other frames
    save({"vision": np.zeros(18, np.float32)}),
    save({"vision": np.zeros((18, 8), np.float64)}),
)


def test_what_somebody_else_put_into_the_cache_is_computed_anew(
    pure: tuple[Draw, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, before = pure
    shutil.copytree(draw.path.parent / "cache", tmp_path, dirs_exist_ok=True)
    for path, content in zip(sorted(tmp_path.iterdir()), FOREIGN, strict=False):  # their hashes are right
        CacheFile(path, "feature cache", computed_by("cpu")).write(content)
    runs = counted_runs(monkeypatch)
    after = searched(draw, tmp_path)
    assert runs[0] == len(FOREIGN)
    assert [fit.mae for fit in after.verdict.fits] == [fit.mae for fit in before.verdict.fits]


def test_a_newer_pillow_makes_features_of_its_own(
    pure: tuple[Draw, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, _ = pure
    shutil.copytree(draw.path.parent / "cache", tmp_path, dirs_exist_ok=True)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(PIL, "__version__", "99.0")
    runs = counted_runs(monkeypatch)
    searched(draw, tmp_path)
    assert runs[0] == len(draw.episodes) * 8
    assert {path: path.read_bytes() for path in kept} == kept


def test_what_another_search_replaces_meanwhile_is_computed_and_used(
    pure: tuple[Draw, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, before = pure
    monkeypatch.setattr(KeptFile, "read", lambda file: {})
    after = searched(draw, tmp_path)
    assert [fit.mae for fit in after.verdict.fits] == [fit.mae for fit in before.verdict.fits]


def test_a_disk_that_fills_up_over_an_older_file_is_told(
    pure: tuple[Draw, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, _ = pure
    shutil.copytree(draw.path.parent / "cache", tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(KeptFile, "read", lambda file: {})
    monkeypatch.setattr(CacheFile, "write", lambda file, data: False)  # as a full disk, the older file stays
    with pytest.raises(ResourceError, match="cannot be kept"):
        searched(draw, tmp_path)


def test_a_full_disk_ends_the_search_and_keeps_what_is_there(
    pure: tuple[Draw, Outcome], small_disk: Callable[[int], Path]
) -> None:
    draw, _ = pure
    folder = small_disk(400)
    with pytest.raises(ResourceError, match=f"cannot be kept in {folder}") as raised:
        searched(draw, folder)
    assert "--cache" in raised.value.hint
    assert any(path.suffix == ".features" for path in folder.iterdir())


def test_episodes_that_are_run_together_give_the_same(
    pure: tuple[Draw, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, whose memory takes several."""
    from vla_edge.export.kosmos2.search import memory

    draw, alone = pure
    monkeypatch.setattr(memory, "planned", lambda *_: memory.DeviceMemory(3 * planted_settings.STEPS, None))
    runs = counted_runs(monkeypatch)
    together = searched(draw, tmp_path)
    assert 0 < runs[0] < 8 * len(draw.episodes)
    assert len(list(tmp_path.iterdir())) == 8 * len(draw.episodes)
    assert together.verdict.kind == alone.verdict.kind == "found"
    assert together.verdict.fits[0].mae == pytest.approx(alone.verdict.fits[0].mae, abs=1e-6)
    # what one search kept the other takes
    again = counted_runs(monkeypatch)
    searched(draw, tmp_path)
    assert again[0] == 0


def test_a_part_that_is_kept_makes_no_forecast_too_low(pure: tuple[Draw, Outcome], tmp_path: Path) -> None:
    draw, _ = pure
    told: list[Forecast] = []
    evaluator = evaluator_of(draw, pure[1])
    features = dataclasses.replace(evaluator.features, folder=tmp_path)
    features.compute(lambda done: None, told.append)
    some = [path for path in tmp_path.iterdir() if path == features._file(0, features.runs[0]).file.path]
    assert len(some) == 1
    assert told[0].left == len(draw.episodes) - 1
    for path in tmp_path.iterdir():
        if path not in [features._file(0, run).file.path for run in features.runs[1:]]:
            path.unlink()
    features.compute(lambda done: None, told.append)
    # of one run in eight the forecast is of all eight
    assert told[1].left_s > told[0].left_s / 4


def test_a_forecast_runs_one_episode_and_tells(pure: tuple[Draw, Outcome], tmp_path: Path) -> None:
    draw, _ = pure
    told: list[str] = []
    reporter = Quiet()
    reporter.note = told.append  # type: ignore[method-assign]
    options = SearchOptions(draw.path, tmp_path, forecast_only=True)
    assert find_settings(options, draw.episodes, reporter) is None
    assert len(list(tmp_path.iterdir())) == 8
    assert f"for {len(draw.episodes) - 1} more" in told[-1]


def test_first_frames_only_need_one_frame_of_each(pure: tuple[Draw, Outcome], tmp_path: Path) -> None:
    draw, _ = pure
    options = SearchOptions(draw.path, tmp_path, first_only=True, tried={"pooling": ["max"]})
    outcome = find_settings(options, draw.episodes, Quiet())
    assert outcome is not None
    assert {each.frame for each in outcome.space} == {"first"}
    assert outcome.agreement.assumed == {"frame": "first"}
    kept = [load(path.read_bytes().partition(b"\n")[2]) for path in tmp_path.iterdir()]
    assert kept
    assert all(len(array) == 1 for arrays in kept for array in arrays.values())


def test_a_checkpoint_without_its_error_is_refused(
    pure: tuple[Draw, Outcome], rewritten: Callable[..., Path], tmp_path: Path
) -> None:
    path = rewritten(lambda content: {**content, "val_mae": None})
    with pytest.raises(CheckpointError, match="carries no val_mae") as raised:
        find_settings(SearchOptions(path, tmp_path), pure[0].episodes, Quiet())
    assert "--val-mae" in raised.value.hint


def test_episodes_that_cannot_be_compared_are_refused(pure: tuple[Draw, Outcome], tmp_path: Path) -> None:
    draw, _ = pure
    options = SearchOptions(draw.path, tmp_path)
    with pytest.raises(InputError, match="there are no episodes"):
        find_settings(options, [], Quiet())
    silent = dataclasses.replace(draw.episodes[0], actions=None)
    with pytest.raises(InputError, match=f"{silent.name} has no actions"):
        find_settings(options, [silent], Quiet())
    joints = Actions(np.zeros((18, 2)), ("joint_1", "joint_2"), None)
    with pytest.raises(InputError, match="has no action component 'linear_x'; it has joint_1, joint_2"):
        find_settings(options, [dataclasses.replace(draw.episodes[0], actions=joints)], Quiet())


def evaluator_of(draw: Draw, outcome: Outcome) -> Evaluator:
    """What answers for any settings of the outcome's space, on the draw's episodes."""
    from vla_edge.export.search import search

    family_search = FAMILY.search()
    options = SearchOptions(draw.path, draw.path.parent / "cache")
    return search._evaluator(
        options,
        outcome.checkpoint,
        family_search,
        outcome.recordings,
        outcome.space,
        outcome.sha256,
        outcome.device,
    )


def counted_runs(monkeypatch: pytest.MonkeyPatch, stop_at: int = 0) -> list[int]:
    """Count runs of the backbones; Ctrl-C comes in the one of this number."""
    from vla_edge.export.kosmos2.search.backbones import Kosmos2Backbones

    counted, run = [0], Kosmos2Backbones.run

    def counting(self: Any, *arguments: Any) -> Any:
        for found in run(self, *arguments):
            counted[0] += 1
            if counted[0] == stop_at:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(Kosmos2Backbones, "run", counting)
    return counted


assert FAMILY.search().steps == planted_settings.STEPS
