"""The command `vla-sample`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vla_edge.export.kosmos2.sample.tokenizer import write_tokenizer
from vla_edge.export.sample.cli import main


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

    def test_a_folder_that_cannot_be_made_is_told_as_wrong_use(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert self.run(monkeypatch, "--layout", "pure", "-o", "/proc/x/") == 2
        assert capsys.readouterr().err.endswith("rite elsewhere with -o.\n")

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
