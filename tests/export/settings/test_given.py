"""What vla-settings found stands in a settings file beside what its reader chose, and is told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vla_edge.export.kosmos2.sample.sizes import sample_architecture
from vla_edge.export.kosmos2.settings_rules import RULES
from vla_edge.export.settings.given import found_text, read_given
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import InputError

EVIDENCE = "exact: gives val_mae 0.2220 of policy.pth on 72 episodes: within 2e-09"


def test_found_settings_come_back_with_their_evidence(tmp_path: Path) -> None:
    file = tmp_path / "found.yaml"
    values = {"pooling": "mean", "features": ["text"], "final_tanh": False, "action_scale": [2.0, 2.0]}
    file.write_text(found_text(values, EVIDENCE, "found by vla-settings\n\ncheck it"))
    given = read_given(file)
    assert (given.found, given.evidence, given.chosen) == (values, EVIDENCE, {})
    assert file.read_text().startswith("# found by vla-settings\n#\n# check it\nepisodes:\n")


def test_what_stands_beside_wins_over_what_was_found(tmp_path: Path) -> None:
    file = tmp_path / "found.yaml"
    file.write_text(found_text({"pooling": "mean", "lstm": "carried"}, EVIDENCE) + "pooling: last\n")
    resolved = RULES.resolve(sample_architecture("pure", "none", "tiny"), file=file)
    assert (resolved.values.pooling, resolved.values.lstm) == ("last", "carried")
    assert (resolved.origins["pooling"], resolved.origins["lstm"]) == ("file", "episodes")
    kept = resolved.for_manifest()
    assert (kept["lstm"].origin, kept["lstm"].standing) == ("episodes", EVIDENCE)
    assert kept["pooling"].standing.startswith("likely")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("episodes: 3\n", "are not 'settings' and 'evidence'"),
        ("episodes:\n  settings: {}\n", "are not 'settings' and 'evidence'"),
        ("episodes:\n  settings: []\n  evidence: 'exact: x'\n", "are not 'settings' and 'evidence'"),
        ("episodes:\n  settings: {}\n  evidence: 'unknown: x'\n", "is not as vla-settings writes it"),
        (f"episodes:\n  settings: {{}}\n  evidence: 'exact: {'x' * 1000}'\n", "is not as vla-settings"),
    ],
)
def test_a_found_half_that_was_written_by_another_is_refused(
    tmp_path: Path, content: str, words: str
) -> None:
    file = tmp_path / "found.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=words) as raised:
        read_given(file)
    assert str(file) in raised.value.problem


def test_an_exported_bundle_says_which_settings_episodes_decided(
    tmp_path: Path, checkpoint_of: Callable[..., Path]
) -> None:
    from vla_edge.export.inspect.bundle import setting_lines
    from vla_edge.export.pipeline import ExportOptions, export_bundle

    file = tmp_path / "found.yaml"
    file.write_text(found_text({"pooling": "mean"}, EVIDENCE))
    options = ExportOptions(checkpoint_of("pure"), tmp_path, precisions=("fp32",), settings_file=file)
    (exported,) = export_bundle(options)
    lines = {line.name: line for line in setting_lines(Bundle.open(exported.folder).manifest)}
    assert (lines["pooling"].origin, lines["pooling"].certainty) == ("episodes", "certain")
    assert lines["pooling"].standing == EVIDENCE
