"""What the commands say about errors, gates and guesses: the number that is judged, and the room left."""

from __future__ import annotations

import io
import math
import shlex
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from rich.cells import cell_len

from vla_edge.export import build_hook
from vla_edge.export.build import view as build_view
from vla_edge.export.build.verify import StageMeasure
from vla_edge.export.bundle.gates import default_gates, judgements, missed, override
from vla_edge.export.export_view import print_exported, print_missed
from vla_edge.export.kosmos2.family import FAMILY
from vla_edge.export.kosmos2.guesses import guesses, likely
from vla_edge.export.kosmos2.settings import PolicySettings
from vla_edge.export.kosmos2.settings_rules import RULES
from vla_edge.export.screen import gates as gate_view
from vla_edge.export.settings.text import parse_options
from vla_edge.export.settings.view import print_settings
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import Gate, Manifest, Parity, StageError
from vla_edge.runtime.checks.gates import judge
from vla_edge.runtime.command.streams import plus_minus
from vla_edge.runtime.engines.tensorrt.record import Check, PlanVerification, SampleError
from vla_edge.runtime.errors import InputError

ManifestOf = Callable[..., Manifest]


@pytest.fixture
def manifest_of(bundle_of: Callable[..., Path]) -> ManifestOf:
    def read(layout: str = "pure", form: str = "none") -> Manifest:
        return Bundle.open(bundle_of(layout, form, "fp16")).manifest

    return read


@pytest.mark.parametrize(
    ("measured", "unit", "limit", "words"),
    [
        (0.0053, "m/s", 0.02, "0.0053 m/s of 0.02 m/s allowed, 3.8x room"),
        (0.0017, "", 0.03, "0.0017 of 0.03 allowed, 18x room"),
        (1e-9, "", 0.03, "1e-09 of 0.03 allowed, >1000x room"),
        (0.0, "m/s", 0.02, "0 m/s of 0.02 m/s allowed, no error"),
        (0.02, "m/s", 0.02, "0.02 m/s of 0.02 m/s allowed, 1.000x room"),
        (0.0201, "m/s", 0.02, "0.0201 m/s of 0.02 m/s allowed, MISSED, 1.005x over"),
        (0.0486, "m/s", 0.02, "0.049 m/s of 0.02 m/s allowed, MISSED, 2.4x over"),
        (None, "m/s", 0.02, "NaN or infinite of 0.02 m/s allowed, MISSED"),
        (0.01, "m/s or rad/s", 0.02, "0.01 m/s or rad/s of 0.02 m/s or rad/s allowed, 2.0x room"),
    ],
)
def test_a_gate_is_told_with_its_room(measured: float | None, unit: str, limit: float, words: str) -> None:
    gate = Gate(stage="action", metric="max_abs" if unit else "relative_l2", limit=limit)
    assert gate_view.sentence(judge(gate, measured, unit)) == words


def test_the_action_is_judged_and_shown_in_metres_per_second(manifest_of: ManifestOf) -> None:
    manifest = manifest_of()
    parity = manifest.parity
    action = next(found for found in judgements(manifest) if found.gate.stage == "action")
    unscaled = next(error.max_abs for error in parity.errors if error.stage == "action")
    assert action.measured == parity.max_abs == pytest.approx(2 * unscaled)


def parity_of(gate: Gate, *errors: StageError) -> Parity:
    return Parity(reference="", engine="", samples=1, gates=(gate,), errors=errors, max_abs=0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_misses_its_gate(value: float) -> None:
    gate = Gate(stage="text", metric="relative_l2", limit=0.03)
    error = StageError(stage="text", relative_l2=value, max_abs=value)
    assert missed(parity_of(gate, error), "m/s") == ["text NaN or infinite relative, gate 0.03"]


def test_a_gate_without_an_error_is_missed_and_no_crash() -> None:
    gate = Gate(stage="clip", metric="relative_l2", limit=0.03)
    assert missed(parity_of(gate), "m/s") == ["clip NaN or infinite relative, gate 0.03"]


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("foo=1", "--gate 'foo=1': unknown stage 'foo'.", "Stages of this policy: text, action."),
        ("clip=0.1", "--gate 'clip=0.1': unknown stage 'clip'.", "Stages of this policy: text, action."),
        ("foo", "--gate 'foo' is not STAGE=LIMIT.", "Stages of this policy: text, action."),
        ("=1", "--gate '=1' is not STAGE=LIMIT.", "Stages of this policy: text, action."),
        ("action=abc", "--gate 'action=abc': 'abc' is no number.", "such as action=0.02 (m/s)"),
        ("action=nan", "--gate 'action=nan': 'nan' is no number.", "such as action=0.02 (m/s)"),
        ("action=", "--gate 'action=': '' is no number.", "such as action=0.02 (m/s)"),
        ("action=1e", "--gate 'action=1e': '1e' is no number.", "such as action=0.02 (m/s)"),
        ("action=0", "0 is no limit: it must be positive and finite.", "Give a number above 0"),
        ("text=-1", "-1 is no limit: it must be positive and finite.", "Give a number above 0"),
        ("text=1e999", "1e999 is no limit: it must be positive and finite.", "Give a number above 0"),
    ],
)
def test_a_gate_that_cannot_be_is_told_by_what_is_wrong_with_it(text: str, problem: str, hint: str) -> None:
    with pytest.raises(InputError) as raised:
        override(default_gates(FAMILY.gates["fp16"], ["text"]), [text], "m/s")
    assert problem in raised.value.problem
    assert hint in raised.value.hint


@pytest.mark.parametrize(("text", "limit"), [("action=.5", 0.5), ("action= 1e-3", 1e-3), ("action=2.", 2.0)])
def test_a_gate_is_any_positive_number(text: str, limit: float) -> None:
    assert override(default_gates(FAMILY.gates["fp16"], ["text"]), [text], "m/s")[-1].limit == limit


def test_the_answer_comes_first(manifest_of: ManifestOf, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = manifest_of("hybrid-a", "transformers")
    print_exported(Path("engines/a b"), manifest, {"read": 1.0})
    folder, answer, weights, run, build = capsys.readouterr().out.splitlines()[:5]
    assert folder.startswith("engines/a b  ")
    assert answer.startswith("action within 0.0")
    assert weights.startswith("generated weights: vla-sample")
    assert run == "next: vla-run 'engines/a b' IMAGE"
    assert build == "on the robot: vla-build 'engines/a b'"


@pytest.mark.parametrize(
    ("batch", "words"),
    [(1, "IMAGE"), (4, "FOLDER  (its images, 4 at a time)"), (64, "FOLDER  (its images, 64 at")],
)
def test_what_to_run_next_takes_as_many_images_as_the_bundle(
    manifest_of: ManifestOf, capsys: pytest.CaptureFixture[str], batch: int, words: str
) -> None:
    manifest = manifest_of()
    inputs = [msgspec.structs.replace(one, shape=(batch, *one.shape[1:])) for one in manifest.inputs]
    print_exported(Path("x"), msgspec.structs.replace(manifest, inputs=tuple(inputs)), {})
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("next: "))
    assert line.startswith(f"next: vla-run x {words}")


@pytest.mark.parametrize("folder", ["engines/p-fp16", "a b"])
@pytest.mark.parametrize(
    ("installed", "words"),
    [
        (False, "no TensorRT here, as expected on a workstation; build the plan on the robot: vla-build "),
        (
            True,
            "no TensorRT plan yet: there is no NVIDIA driver on this machine; build the plan on the robot: ",
        ),
    ],
)
def test_an_export_without_tensorrt_does_not_read_like_a_failure(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    installed: bool,
    words: str,
    folder: str,
) -> None:
    reason = "There is no NVIDIA driver on this machine." if installed else "tensorrt is not installed."
    monkeypatch.setattr(build_hook, "is_installed", lambda name: installed)
    monkeypatch.setattr(build_hook, "_missing", lambda: reason)
    assert build_hook.build_here(Path(folder), None) is None
    assert capsys.readouterr().err.replace("\n", "") == (
        f"{words}{'vla-build ' if installed else ''}{shlex.quote(folder)}"
    )


def test_lines_in_a_pipe_end_without_blanks(
    manifest_of: ManifestOf, capsys: pytest.CaptureFixture[str]
) -> None:
    print_exported(Path("x"), manifest_of("hybrid-a", "transformers"), {"read": 1.0})
    print_missed(manifest_of())
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) > 20
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("columns", [40, 60, 72])
def test_settings_keep_their_hanging_indent_at_any_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    print_settings(RULES, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    # what is one word, such as a list without blanks, is as long as it is
    assert [line for line in lines if cell_len(line) > columns and len(line.split()) > 2] == []


@pytest.mark.parametrize(("encoding", "sign"), [("utf-8", "±"), ("latin-1", "±"), ("ascii", "+-")])
def test_plus_minus_is_one_sign_where_the_output_has_it(
    monkeypatch: pytest.MonkeyPatch, encoding: str, sign: str
) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert plus_minus() == sign


def test_texts_of_a_manifest_do_not_command_the_terminal(
    manifest_of: ManifestOf, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = manifest_of()
    for text in ("\x1b[2Jx", "x\x9b31m", "[red]x[/red]\n"):
        source = msgspec.structs.replace(manifest.source, weights_origin=f"sample: {text}")
        parity = msgspec.structs.replace(manifest.parity, reference=text)
        odd = msgspec.structs.replace(manifest, name=text, source=source, parity=parity)
        print_exported(Path(text), odd, {})
        print_missed(odd)
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x9b"} & set(shown)
    assert "[red]x[/red]" in shown


class TestGuesses:
    @pytest.mark.parametrize(
        ("layout", "form", "names"),
        [
            ("pure", "none", ["frame", "features", "prompt", "projection_attention"]),
            (
                "hybrid-a",
                "transformers",
                ["frame", "features", "prompt", "projection_attention", "final_tanh"],
            ),
            ("hybrid-b", "transformers", ["frame", "features", "final_tanh"]),
        ],
    )
    def test_each_tells_what_else_it_may_be_and_what_a_wrong_one_does(
        self, manifest_of: ManifestOf, layout: str, form: str, names: list[str]
    ) -> None:
        found = guesses(manifest_of(layout, form))
        assert [guess.name for guess in found] == names
        assert all(guess.if_wrong != "actions are off" for guess in found)

    def test_an_alternative_is_what_set_takes(self, manifest_of: ManifestOf) -> None:
        known = {guess.name: guess.otherwise for guess in guesses(manifest_of("hybrid-a", "transformers"))}
        assert known["features"] == '["image_projection", "clip_image"]'
        settings = parse_options(f"{name}={value}" for name, value in known.items())
        assert msgspec.convert(settings, PolicySettings).final_tanh is True

    def test_whether_one_image_predicts_the_whole_sequence_is_among_them(
        self, manifest_of: ManifestOf
    ) -> None:
        frame = guesses(manifest_of())[0]
        assert (frame.name, frame.taken, frame.otherwise) == ("frame", "current", "first")
        assert "held until reset" in frame.if_wrong

    def test_likely_ones_are_told_where_they_matter(self, manifest_of: ManifestOf) -> None:
        assert set(likely(manifest_of())) == {"pooling", "lstm", "final_tanh"}
        hybrid = likely(manifest_of("hybrid-b", "transformers"))
        assert set(hybrid) == {"clip_feature", "clip_activation", "lstm"}


class TestPlans:
    def verification(self, passed: bool | None, measured: float | None = None) -> PlanVerification:
        check = Check(
            stage="action",
            metric="max_abs",
            unit="m/s",
            limit=0.02,
            measured=measured,
            passed=bool(passed),
        )
        sample = SampleError(name="a", max_abs=measured, relative_l2=measured)
        ran = passed is not None
        return PlanVerification(
            passed=passed,
            note="not yet run.",
            engine="",
            samples=(sample,) * (8 if ran else 0),
            checks=(check,) if ran else (),
            checked_utc=None,
        )

    @pytest.mark.parametrize(
        ("passed", "measured", "words"),
        [
            (True, 0.0049, "checked: action within 0.0049 m/s of 0.02 m/s allowed, 4.1x room (8 samples)"),
            (False, 0.3, "REJECTED: action 0.3 m/s of 0.02 m/s allowed, MISSED, 15x over (8 samples)"),
            (False, None, "REJECTED: action NaN or infinite of 0.02 m/s allowed, MISSED (8 samples)"),
            (None, None, "NOT checked: not yet run."),
        ],
    )
    def test_the_verdict_tells_the_number_that_was_judged(
        self, passed: bool | None, measured: float | None, words: str
    ) -> None:
        assert build_view.verdict(self.verification(passed, measured)) == words

    def test_stages_are_shown_against_the_gates_of_the_manifest(
        self, manifest_of: ManifestOf, capsys: pytest.CaptureFixture[str]
    ) -> None:
        errors = {"vision": StageMeasure(0.001, 5.0), "action": StageMeasure(math.inf, math.inf)}
        build_view.print_stages(errors, manifest_of())
        _, vision, action = capsys.readouterr().out.splitlines()
        assert vision.split() == ["vision", "0.001", "0.03", "relative", "30x"]
        assert action.split() == ["action", "NaN", "or", "infinite", "0.02", "m/s", "MISSED"]
