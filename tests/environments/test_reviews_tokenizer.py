"""Every text survives the tokenizer, and prompts and responses hold the text they were cut from."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from synthetic_rm.environments.reviews.ratings import load_snippets, split_snippets
from synthetic_rm.environments.reviews.tokenizer import (
    BOS,
    EOS,
    PAD,
    SPECIAL_TOKENS,
    decode,
    encode,
    encode_batch,
    encode_snippets,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from synthetic_rm.errors import InputError


@cache
def _train() -> list[str]:
    return [snippet.text for snippet in split_snippets(load_snippets()).train]


@cache
def _tokenizer() -> Tokenizer:
    return train_tokenizer(_train())


def test_vocabulary_is_exact_and_specials_come_first() -> None:
    assert _tokenizer().get_vocab_size() == 1024
    assert (PAD, BOS, EOS) == (0, 1, 2)
    assert tuple(_tokenizer().id_to_token(token) for token in (PAD, BOS, EOS)) == SPECIAL_TOKENS
    assert train_tokenizer(_train()[:500], vocab_size=300).get_vocab_size() == 300


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(),
            st.sampled_from([*SPECIAL_TOKENS, " ", "  ", "\0", "\r\n", "GREAT", "😀👍🏽", "Ġ", "é", "'s"]),
        )
    ).map("".join)
)
def test_every_text_round_trips_without_special_tokens(text: str) -> None:
    ids = encode(_tokenizer(), text)
    assert decode(_tokenizer(), ids) == text
    assert all(EOS < token < 1024 for token in ids)


def test_every_snippet_round_trips_in_a_third_of_its_bytes() -> None:
    encoded = encode_batch(_tokenizer(), _train())
    assert [decode(_tokenizer(), ids) for ids in encoded[::20]] == _train()[::20]
    assert encoded[7] == encode(_tokenizer(), _train()[7])
    assert np.mean([len(ids) for ids in encoded]) < np.mean([len(text.encode()) for text in _train()]) / 2.5
    assert {token for ids in encoded for token in ids} > set(range(400, 1000))  # the merges are used


def test_decode_skips_specials_and_survives_broken_bytes() -> None:
    ids = encode(_tokenizer(), "good")
    assert decode(_tokenizer(), np.array([BOS, *ids, EOS, PAD, PAD])) == "good"
    assert decode(_tokenizer(), encode(_tokenizer(), "é")[:1]) == "\ufffd" or len(encode(_tokenizer(), "é")) == 1


def test_lone_surrogate_and_impossible_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="surrogate"):
        encode(_tokenizer(), "bad \ud800")
    with pytest.raises(InputError, match="vocab_size = 258"):
        train_tokenizer(_train()[:10], vocab_size=258)
    with pytest.raises(InputError, match="allow at most"):
        train_tokenizer(["good"], vocab_size=300)


def test_save_and_load_are_exact(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    save_tokenizer(train_tokenizer(_train()), first)
    loaded = load_tokenizer(first)
    save_tokenizer(loaded, second)
    assert first.read_bytes() == second.read_bytes() == _tokenizer().to_str(pretty=True).encode()
    text = "A <|eos|> of <|pad|>!"
    assert encode(loaded, text) == encode(_tokenizer(), text)
    assert decode(loaded, encode(loaded, text)) == text


@pytest.mark.parametrize("damage", ["missing", "truncated", "binary", "other", "directory"])
def test_damaged_tokenizer_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "tokenizer.json"
    if damage == "truncated":
        path.write_text(_tokenizer().to_str()[:-100])
    elif damage == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    elif damage == "other":
        path.write_text(Tokenizer.from_str(_tokenizer().to_str().replace("<|bos|>", "<|start|>")).to_str())
    elif damage == "directory":
        path.mkdir()
    with pytest.raises(InputError) as error:
        load_tokenizer(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("prompt_tokens", "response_tokens"), [(5, 27), (1, 1), (3, 400)])
def test_prompt_and_response_hold_the_text(prompt_tokens: int, response_tokens: int) -> None:
    texts = ["", "ok", *_train()[:300], "<|eos|>"]
    found = encode_snippets(_tokenizer(), texts, prompt_tokens=prompt_tokens, response_tokens=response_tokens)
    assert found.prompt.dtype == found.response.dtype == found.length.dtype == np.int32
    assert found.prompt.shape[1:] == (prompt_tokens,)
    assert found.response.shape[1:] == (response_tokens,)
    encoded = encode_batch(_tokenizer(), texts)
    assert found.index.tolist() == [i for i, ids in enumerate(encoded) if len(ids) >= prompt_tokens]
    for row, i in enumerate(found.index):
        ids, length = encoded[i], found.length[row]
        joined = [*found.prompt[row], *found.response[row, :length]]
        whole = [BOS, *ids, EOS]
        assert joined == whole[: len(joined)]
        assert found.complete[row] == (len(joined) == len(whole)) == (found.response[row, length - 1] == EOS)
        assert found.complete[row] or length == response_tokens
        assert length >= 1
        assert (found.response[row, length:] == PAD).all()


def test_response_that_leaves_no_room_for_eos_is_incomplete() -> None:
    ids = encode(_tokenizer(), _train()[0])
    for room, complete in ((len(ids) - 4, False), (len(ids) - 3, True)):
        found = encode_snippets(_tokenizer(), [_train()[0]], prompt_tokens=5, response_tokens=room)
        assert (found.complete.tolist(), found.length.tolist()) == ([complete], [room])


def test_no_kept_snippet_leaves_empty_arrays() -> None:
    found = encode_snippets(_tokenizer(), [""], prompt_tokens=5, response_tokens=27)
    assert (found.prompt.shape, found.response.shape, len(found.index)) == ((0, 5), (0, 27), 0)
    for bad in ({"prompt_tokens": 0, "response_tokens": 1}, {"prompt_tokens": 1, "response_tokens": 0}):
        with pytest.raises(InputError, match="= 0: allowed is 1"):
            encode_snippets(_tokenizer(), ["good"], **bad)
