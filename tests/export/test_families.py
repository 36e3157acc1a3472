"""The registry of families: who offers one, what is said where that fails, and that nothing else names the first."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from vla_edge.export import families
from vla_edge.export.checkpoint.checkpoint import read_checkpoint, read_stored
from vla_edge.export.export_view import print_exported
from vla_edge.export.families import all_families, family_of
from vla_edge.export.inspect.bundle import setting_lines
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Architecture
from vla_edge.runtime.errors import CheckpointError, InputError

TREE = Path(__file__).parents[2]
# Of the family that is built in: its tensors, its layouts, and the settings that go with them.
NAMES = r"kosmos_model|clip_model|feature_fusion|actions\.mlp|clip_text|clip_form|hybrid-[abc]|[\"']pure[\"']"
# Bundles from before any layout could be named are checked as they were.
MAY_NAME = {"runtime/bundle/manifest_v1.py"}


def saved(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    torch.save({"model_state_dict": tensors}, path)
    return path


def toy_weights() -> dict[str, torch.Tensor]:
    return {"joints.weight": torch.zeros(6, 48), "joints.bias": torch.zeros(6)}


def test_only_the_family_that_is_built_in_is_known_without_a_package() -> None:
    assert [family.name for family in all_families()] == [families.BUILT_IN]
    with pytest.raises(InputError, match="there is no family 'mine' here; known: kosmos2"):
        family_of("mine")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import a_missing_library", "ModuleNotFoundError: No module named 'a_missing_library'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("", "AttributeError: module 'broken_one' has no attribute 'FAMILY'"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
    ],
)
def test_a_package_that_cannot_be_imported_is_named_with_a_way_around_it(
    install: Callable[..., None], checkpoint_of: Callable[..., Path], code: str, words: str
) -> None:
    install("mine", "broken_one:FAMILY", code)
    expected = f"the family 'mine' (broken_one:FAMILY of some-package) cannot be imported: {words}"
    with pytest.raises(InputError, match=re.escape(expected)) as refused:
        read_checkpoint(checkpoint_of("pure"))
    assert "--family kosmos2" in refused.value.hint
    assert read_checkpoint(checkpoint_of("pure"), family="kosmos2").layout == "pure"


NAMELESS = """
from vla_edge.export.family import Family
class Nameless(Family):
    empty = graph = recognise = surroundings = None
FAMILY = Nameless()
"""


@pytest.mark.parametrize(
    "code",
    [
        "FAMILY = object()",
        NAMELESS,
        NAMELESS.replace("empty =", "name = 'mine'; empty ="),
        NAMELESS.replace("empty =", "name = 'mine'; parts = architecture = settings = 3; empty ="),
    ],
    ids=["no family", "without a name", "without parts", "without gates"],
)
def test_what_is_no_family_is_refused(install: Callable[..., None], code: str) -> None:
    install("mine", "no_family:FAMILY", code)
    with pytest.raises(InputError, match="is no Family of that name"):
        family_of("mine")


def test_what_a_package_prints_while_it_is_imported_is_no_result(
    install: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    install("mine", "loud_family:FAMILY", "print('hello')")
    with pytest.raises(InputError):
        family_of("mine")
    assert capsys.readouterr() == ("", "hello\n")


FAILING = """
import sys, toy_family
class Failing(toy_family.ToyFamily):
    name = "failing"
    def {method}: {does}
FAMILY = Failing()
"""


@pytest.mark.parametrize(
    ("method", "does", "words"),
    [
        ("recognise(self, shapes)", "raise KeyError('boo')", "KeyError: 'boo'"),
        ("recognise(self, shapes)", "sys.exit(7)", "SystemExit: 7"),
        ("recognise(self, shapes)", "pass", "TypeError: recognise gave NoneType in place of Recognised"),
        ("tidy(self, tensors)", "pass", "TypeError: cannot unpack non-iterable NoneType object"),
    ],
)
def test_a_family_that_fails_is_named_with_a_way_around_it(
    install: Callable[..., None],
    toy: None,
    checkpoint_of: Callable[..., Path],
    method: str,
    does: str,
    words: str,
) -> None:
    install("failing", "failing_family:FAMILY", FAILING.format(method=method, does=does))
    with pytest.raises(InputError, match=re.escape(f"the family 'failing' failed: {words}")) as refused:
        read_stored(checkpoint_of("pure"))
    assert "--family kosmos2" in refused.value.hint
    assert read_checkpoint(checkpoint_of("pure"), family="kosmos2").layout == "pure"


def test_a_bundle_s_settings_are_shown_where_its_family_fails(
    install: Callable[..., None], toy: None, bundle_of: Callable[..., Path]
) -> None:
    install(
        "failing", "failing_family:FAMILY", FAILING.format(method="guesses(self, manifest)", does="1 / 0")
    )
    manifest = Bundle.open(bundle_of("pure"), "size").manifest
    theirs = msgspec.structs.replace(manifest, architecture=Architecture(family="failing", values={}))
    assert [line.name for line in setting_lines(theirs)] == list(manifest.settings)


def test_entry_points_that_cannot_be_parsed_are_told(
    install: Callable[..., None], tmp_path: Path, checkpoint_of: Callable[..., Path]
) -> None:
    install("mine", "a:FAMILY", "")
    (tmp_path / "some-package" / "some_package.dist-info" / "entry_points.txt").write_text(
        f"[{families.GROUP}]\nno value\n"
    )
    families._offers.cache_clear()
    with pytest.raises(InputError, match="entry points of the installed packages cannot be read"):
        read_stored(checkpoint_of("pure"))


def test_a_command_that_needs_the_family_that_is_built_in_tells_who_else_offers_it(
    install: Callable[..., None], tmp_path: Path
) -> None:
    install(families.BUILT_IN, "other:FAMILY", "")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from vla_edge.runtime.command.start import vla_sample; vla_sample()",
            "--help",
        ],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "some-package")},
        capture_output=True,
        text=True,
        check=False,
    )
    told = "error: several packages offer the family 'kosmos2': vla-edge, some-package."
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, told)


def test_two_packages_with_one_name_are_refused(install: Callable[..., None]) -> None:
    install("mine", "first_one:FAMILY", "")
    install("mine", "other_one:FAMILY", "", package="other-package")
    with pytest.raises(InputError, match="several packages offer the family 'mine'"):
        family_of("mine")


@pytest.mark.usefixtures("toy")
def test_each_checkpoint_goes_to_the_family_that_recognises_it(
    tmp_path: Path, checkpoint_of: Callable[..., Path]
) -> None:
    assert read_checkpoint(checkpoint_of("hybrid-a", "open_clip")).family.name == "kosmos2"
    assert read_checkpoint(saved(tmp_path / "a.pth", toy_weights())).family.name == "toy"


@pytest.mark.usefixtures("toy")
def test_where_none_does_the_one_whose_names_are_there_says_why(tmp_path: Path) -> None:
    half = {"joints.weight": torch.zeros(6, 48)}
    with pytest.raises(CheckpointError, match=r"a toy has joints\.weight and \.bias of 6 rows"):
        read_checkpoint(saved(tmp_path / "half.pth", half))
    strange = saved(tmp_path / "strange.pth", {"backbone.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match=r"Unknown layout: no kosmos_model\.\* among the tensors"):
        read_checkpoint(strange)
    assert read_stored(strange).recognised is None


def test_what_two_recognise_is_refused_until_one_is_named(
    install: Callable[..., None], toy: None, tmp_path: Path
) -> None:
    code = "import toy_family\n\nclass Twin(toy_family.ToyFamily):\n    name = 'twin'\n\nFAMILY = Twin()\n"
    install("twin", "twin_family:FAMILY", code)
    path = saved(tmp_path / "a.pth", toy_weights())
    with pytest.raises(CheckpointError, match="may be a policy of several families") as refused:
        read_checkpoint(path)
    assert "Say which with --family" in refused.value.hint
    assert read_checkpoint(path, family="twin").family.name == "twin"


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize(
    "given", [{"keep_vocabulary": True}, {"settings": {"instructions": ["go"]}}, {"prompt_length": 3}]
)
def test_options_about_text_are_refused_of_a_policy_without_text(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    options = ExportOptions(saved(tmp_path / "a.pth", toy_weights()), tmp_path, **given)
    with pytest.raises(InputError, match="the policies of toy take no text") as refused:
        export_bundle(options)
    assert "--instruction," in refused.value.hint


UNSURE = """
from typing import Literal
from msgspec import Struct
from toy_family import SettingRules, ToyFamily
class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    reach_rad: float = 0.5
    order: Literal["pan first", "tilt first"] = "pan first"
    mirrored: bool = False
    play_rad: float = 0.1
    side: float = 1.0
STANDING = {"reach_rad": "exact: as built", "order": "unknown: not written down", "mirrored": "unknown: not said",
            "play_rad": "likely: as others of its make", "side": "unknown: not measured"}
class Unsure(ToyFamily):
    name = "unsure"
    settings = SettingRules(Settings, STANDING)
FAMILY = Unsure()
"""


def test_what_a_family_is_unsure_of_is_told_by_its_standings(
    install: Callable[..., None], toy: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("unsure", "unsure_family:FAMILY", UNSURE)
    path = saved(tmp_path / "a.pth", toy_weights())
    options = ExportOptions(path, tmp_path, family="unsure", settings={"mirrored": False})
    manifest = export_bundle(options)[0].manifest
    certainties = {line.name: line.certainty for line in setting_lines(manifest)}
    assert certainties == {
        "reach_rad": "certain",
        "order": "guessed",
        "mirrored": "chosen",
        "play_rad": "likely",
        "side": "guessed",
    }
    guesses = {guess.name: guess.otherwise for guess in family_of("unsure").guesses(manifest)}
    assert guesses == {"order": "tilt first", "side": "another value"}
    print_exported(tmp_path, manifest, {})
    told = " ".join(capsys.readouterr().out.split())
    assert "Change one with --set, such as --set side=VALUE;" in told
    assert "Likely, from the training code: play_rad=0.1." in told


def test_a_family_that_does_not_say_what_may_vary_cannot_be_searched(toy: None) -> None:
    with pytest.raises(InputError, match="the settings of toy policies cannot be searched"):
        family_of("toy").search()


def test_what_is_kept_in_float32_is_what_the_graph_has(
    install: Callable[..., None], toy: None, tmp_path: Path, bundle_of: Callable[..., Path]
) -> None:
    code = "from remembering_family import *"
    install("remembering", "a_remembering_family:FAMILY", code)
    path = saved(tmp_path / "a.pth", toy_weights())
    results = export_bundle(ExportOptions(path, tmp_path, ("fp16", "fp32"), family="remembering"))
    kept = [result.manifest.precision.float32_islands for result in results]
    assert kept == [("Add", "Mul", "Tanh"), ()]
    assert Bundle.open(bundle_of("pure"), "size").manifest.precision.float32_islands == (
        *("activation", "embedding_sum", "last_linear", "layer_norm", "lstm_gates", "normalize"),
        *("pooling", "residual", "softmax"),
    )


@pytest.mark.usefixtures("toy")
def test_weights_that_do_not_fit_the_reference_are_told_by_name() -> None:
    toy = family_of("toy")
    policy = toy.empty(
        toy.recognise({name: tuple(w.shape) for name, w in toy_weights().items()}).architecture, None
    )
    with pytest.raises(
        CheckpointError, match=r"missing joints\.bias; misshapen joints\.weight: \(2, 2\), not \(6, 48\)"
    ):
        toy.assign(policy, {"joints.weight": torch.zeros(2, 2)})


def test_nothing_outside_a_family_names_its_tensors_or_layouts() -> None:
    """Imports are held to that by a contract in pyproject.toml."""
    found = {
        str(path.relative_to(TREE))
        for room in ("runtime", "export", "bench")
        for path in (TREE / room).rglob("*.py")
        if "kosmos2" not in path.parts and re.search(NAMES, path.read_text(encoding="utf-8"))
    }
    assert found == MAY_NAME
