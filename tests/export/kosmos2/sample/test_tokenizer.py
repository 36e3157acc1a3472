"""The tokenizer that lies beside a sample checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_edge.export.kosmos2.sample.sizes import SIZES, sample_architecture
from vla_edge.export.kosmos2.sample.tokenizer import build_tokenizer, write_tokenizer
from vla_edge.export.kosmos2.settings import LEFT, STRAIGHT


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
