"""`vla-settings`: the answer first, a file that vla-export takes, and words for what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from planted_settings import Draw, planted
from rich.cells import cell_len

from vla_edge.export.kosmos2.settings_rules import RULES
from vla_edge.export.search import cli
from vla_edge.export.search.verdict import EXPLAINED
from vla_edge.export.settings.given import read_given
from vla_edge.runtime.episodes import opening
from vla_edge.runtime.episodes.episode import Episode
from vla_edge.runtime.episodes.episodes import Episodes, Source

NARROW = ("--try", "prompt=image_first", "--try", "projection_attention=full,causal")


@pytest.fixture(scope="module")
def pure(tmp_path_factory: pytest.TempPathFactory) -> Draw:
    return planted(tmp_path_factory.mktemp("pure"), 4, layout="pure")


@pytest.fixture
def run(pure: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command on the draw, its episodes in memory in place of files, in an empty folder."""
    memory = Episodes(
        tmp_path, "memory", [Source(each.name, partial(_given, each)) for each in pure.episodes], False
    )
    monkeypatch.setattr(opening, "open_episodes", lambda path, choice, skip_broken: memory)
    monkeypatch.chdir(tmp_path)
    cache = pure.path.parent / "cache"

    def run(*options: str, path: Path = pure.path) -> Result:
        arguments = [str(path), str(tmp_path), "--cache", str(cache), *options]
        return CliRunner().invoke(cli.command, arguments, standalone_mode=False)

    return run


def _given(episode: Episode) -> Episode:
    return episode


def test_a_found_answer_stands_first_and_its_file_exports(pure: Draw, run: Callable[..., Result]) -> None:
    result = run()
    assert result.exception is None, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("found: one of 3,456 combinations gives val_mae 0.")
    file = Path(f"{pure.path.stem}-settings.yaml")
    assert lines[-1].startswith(f"{file}  written: vla-export --ckpt")
    assert all(cell_len(line) <= 80 for line in lines[:-1])
    given = read_given(file)
    assert given.evidence.startswith("exact: gives val_mae 0.")
    assert f"of {pure.path.name}" in given.evidence
    resolved = RULES.resolve(architecture_of(pure), file=file)
    assert FAMILY_SEARCH.canonical(resolved.values) == FAMILY_SEARCH.canonical(pure.settings)
    assert resolved.origins["pooling"] == "episodes"


def test_as_json_all_is_there(pure: Draw, run: Callable[..., Result]) -> None:
    found = json.loads(run("--json", "-o", "a.yaml").stdout)
    assert found["verdict"] == "found"
    assert found["settings_file"] == "a.yaml"
    assert found["fits"][0]["settings"]["pooling"] == pure.settings.pooling
    assert found["checkpoint"]["weights_origin"].startswith("sample")


def test_none_that_fits_is_exit_code_1_and_tells_the_nearest(run: Callable[..., Result]) -> None:
    result = run("--val-mae", "7.5")
    assert result.return_value == 1
    assert result.stdout.startswith("none fits: no one of 3,456 combinations gives val_mae 7.5")
    assert "Are these all the episodes of its validation" in result.stdout
    assert not list(Path().glob("*.yaml"))


def test_several_that_fit_are_listed_with_what_is_open(run: Callable[..., Result]) -> None:
    result = run("--tolerance", "0.05", "--val-mae", "0.4")
    assert result.return_value == 0
    assert result.stdout.startswith("several fit")
    assert "not told apart" in result.stdout
    assert all(
        cell_len(line) <= 80 for line in result.stdout.splitlines() if "written: vla-export" not in line
    )


def test_one_of_several_is_taken_whole(run: Callable[..., Result]) -> None:
    found = json.loads(run("--tolerance", "0.05", "--val-mae", "0.4", "--take", "2", "--json").stdout)
    (file,) = Path().glob("*.yaml")
    given = read_given(file)
    second = found["fits"][1]["settings"]
    assert given.found == {name: second[name] for name in given.found}
    assert {"pooling", "frame", "lstm"} <= given.found.keys()
    assert given.evidence.startswith("likely: one of ")
    assert "; chosen: number 2, off by " in given.evidence
    assert f"where chance would bring {found['expected_by_chance']:.2g} as near" in given.evidence
    refused = run("--tolerance", "0.05", "--val-mae", "0.4", "--take", "100000", "--force")
    assert "--take 100000: " in str(refused.exception)


def test_what_chance_explains_is_not_written(run: Callable[..., Result]) -> None:
    largest = json.loads(run("--val-mae", "7.5", "--json").stdout)["fits"][0]["mae"]
    beyond = ("--tolerance", "0.05", "--val-mae", str(largest + 0.03))
    found = json.loads(run(*beyond, "--json").stdout)
    assert found["expected_by_chance"] >= EXPLAINED
    result = run(*beyond)
    assert result.stdout.startswith("several fit, as by chance: ")
    assert "Chance explains these: nothing written." in result.stdout
    assert not list(Path().glob("*.yaml"))


def test_a_fifth_shows_shares(run: Callable[..., Result]) -> None:
    result = run("--validated-on", "fifth")
    assert "share" in result.stdout
    assert "validated on an unknown fifth of them" in result.stdout
    assert "What you know of the training: --try NAME=VALUE" in result.stdout
    assert "If you know which episodes it was validated on: those alone, --validated-on all." in result.stdout
    assert "vla-replay" in result.stdout


def test_some_episodes_write_no_file(run: Callable[..., Result]) -> None:
    result = run("--limit", "3", *NARROW)
    assert result.exception is None
    assert "the first 3 episodes only" in result.stderr
    assert "written: vla-export" not in result.stdout
    several = run("--limit", "3", "--tolerance", "0.05", "--val-mae", "0.4", "--take", "1").stdout
    assert several.startswith("several fit")
    assert several.endswith("Nothing written: val_mae is of all episodes, and --limit left some out.\n")
    assert "--take" not in several
    everything = run("--limit", "100")
    assert everything.stdout.startswith("found: ")
    assert "Nothing written: val_mae is of all episodes, and --limit left some out." in everything.stdout
    assert not list(Path().glob("*.yaml"))


def test_an_existing_file_is_kept(run: Callable[..., Result]) -> None:
    Path("mine.yaml").write_text("pooling: mean\n")
    result = run("-o", "mine.yaml")
    assert "mine.yaml exists" in str(result.exception)
    assert Path("mine.yaml").read_text() == "pooling: mean\n"
    assert run("-o", "mine.yaml", "--force").exception is None
    assert Path("mine.yaml").read_text() != "pooling: mean\n"


def test_what_is_no_checkpoint_is_named(run: Callable[..., Result], tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    other.write_text("nothing")
    assert str(other) in str(run(path=other).exception)


def architecture_of(draw: Draw) -> Any:
    from vla_edge.export.checkpoint.checkpoint import read_checkpoint

    return read_checkpoint(draw.path).architecture


def _family_search() -> Any:
    from vla_edge.export.kosmos2.family import FAMILY

    return FAMILY.search()


FAMILY_SEARCH = _family_search()


def test_recorded_files_are_read_and_a_forecast_ends_early(pure: Draw, tmp_path: Path) -> None:
    from vla_edge.export.sample.episodes import EpisodeSamples, write_episodes

    write_episodes(tmp_path / "ep", EpisodeSamples(count=2, frames=3, height=72, width=128, seed=0))
    arguments = [str(pure.path), str(tmp_path / "ep"), "--cache", str(tmp_path / "cache"), "--forecast"]
    result = CliRunner().invoke(cli.command, [*arguments, *NARROW], standalone_mode=False)
    assert (result.exception, result.stdout) == (None, "")
    assert "s for an episode on" in result.stderr
    assert "for 1 more" in result.stderr


def test_an_episode_that_breaks_in_the_middle_is_left_out_and_named(pure: Draw, tmp_path: Path) -> None:
    import h5py

    from vla_edge.export.sample.episodes import EpisodeSamples, write_episodes

    write_episodes(tmp_path / "ep", EpisodeSamples(count=3, frames=3, height=72, width=128, seed=0))
    broken, *_ = sorted((tmp_path / "ep").iterdir())
    with h5py.File(broken, "r+") as file:
        images = file["images"][:]
        del file["images"]
        file.create_dataset("images", data=images, chunks=(1, *images.shape[1:]), compression="gzip")
        file["images"].id.write_direct_chunk((2, 0, 0, 0), b"no zlib stream")
    arguments = [str(pure.path), str(tmp_path / "ep"), "--cache", str(tmp_path / "cache"), *NARROW]
    arguments += ["-o", str(tmp_path / "found.yaml"), "--json"]
    result = CliRunner().invoke(cli.command, arguments, standalone_mode=False)
    assert broken.name in str(result.exception)
    result = CliRunner().invoke(cli.command, [*arguments, "--skip-broken"], standalone_mode=False)
    assert (result.exception, result.return_value) == (None, 1)
    assert json.loads(result.stdout)["episodes"] == 2
    assert f"{broken.name} cannot be read as HDF5" in result.stderr
