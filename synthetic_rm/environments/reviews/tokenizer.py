"""Byte-level BPE over the snippets: every text round-trips, because every one of the 256 bytes is a token."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from synthetic_rm.errors import InputError, require

PAD, BOS, EOS = 0, 1, 2
SPECIAL_TOKENS = ("<|pad|>", "<|bos|>", "<|eos|>")  # their ids are their positions
MIN_VOCAB_SIZE = len(SPECIAL_TOKENS) + 256


@dataclass(frozen=True)
class EncodedSnippets:
    """Prompts and responses as token ids, for the N texts that were long enough.

    Attributes:
        prompt: [N, prompt_tokens] int32, BOS and the first tokens of the text.
        response: [N, response_tokens] int32, the tokens that follow, EOS where the text ended, then PAD.
        length: [N] int32, response tokens that count (EOS included); those beyond are PAD.
        complete: [N] bool, whether the text ended within the response, which then holds its EOS.
        index: [N] int64, position of each kept text in the input.
    """

    prompt: np.ndarray
    response: np.ndarray
    length: np.ndarray
    complete: np.ndarray
    index: np.ndarray


def train_tokenizer(texts: Iterable[str], vocab_size: int = 1024) -> Tokenizer:
    """Learn a byte-level BPE of exactly `vocab_size` tokens (Sennrich et al. 2016, on bytes as in GPT-2).

    The vocabulary is PAD, BOS, EOS, the 256 bytes, and `vocab_size` - 259 merges. Byte-level rather than
    characters with byte fallback: the bytes are the alphabet itself, so no text is ever out of vocabulary,
    nothing is normalised away, and a rare character costs at most its UTF-8 bytes; only merges compete for
    the vocabulary.

    Raises:
        InputError: `vocab_size` below 259, or more than the texts have merges for.
    """
    require(vocab_size >= MIN_VOCAB_SIZE, f"vocab_size = {vocab_size}: allowed is {MIN_VOCAB_SIZE} or more")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    found = tokenizer.get_vocab_size()
    require(found == vocab_size, f"vocab_size = {vocab_size}: the texts allow at most {found}")
    return _never_match_specials(tokenizer)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text, without BOS or EOS; `decode` returns the text exactly.

    The literal text of a special token is encoded as ordinary text.

    Raises:
        InputError: the text cannot be written as UTF-8 (it holds a lone surrogate).
    """
    return encode_batch(tokenizer, [text])[0]


def encode_batch(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """`encode` of many texts at once.

    Raises:
        InputError: a text cannot be written as UTF-8 (it holds a lone surrogate).
    """
    try:
        return [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    except TypeError:
        bad = next(text for text in texts if not _is_utf8(text))
        raise InputError(f"text {bad[:40]!a}: not writable as UTF-8 (lone surrogate)") from None


def decode(tokenizer: Tokenizer, ids: Sequence[int] | np.ndarray) -> str:
    """Text of token ids, special tokens skipped; bytes that are not UTF-8 (sampled, say) become U+FFFD."""
    return tokenizer.decode([int(token) for token in ids], skip_special_tokens=True)


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write the tokenizer as JSON; equal tokenizers give equal bytes.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        Path(path).write_bytes(tokenizer.to_str(pretty=True).encode("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: the tokenizer cannot be written ({error.strerror})") from error


def load_tokenizer(path: Path) -> Tokenizer:
    """Read what `save_tokenizer` wrote.

    Raises:
        InputError: the file is missing, damaged, or lacks PAD, BOS, EOS at ids 0, 1, 2.
    """
    try:
        content = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: the tokenizer cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a tokenizer (not UTF-8)") from error
    try:
        tokenizer = Tokenizer.from_str(content)
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{path}: not a tokenizer ({' '.join(str(error).split())})") from error
    found = tuple(tokenizer.id_to_token(position) for position in range(len(SPECIAL_TOKENS)))
    require(found == SPECIAL_TOKENS, f"{path}: tokens 0, 1, 2 are {found}, expected {SPECIAL_TOKENS}")
    return _never_match_specials(tokenizer)


def encode_snippets(
    tokenizer: Tokenizer, texts: Sequence[str], *, prompt_tokens: int, response_tokens: int
) -> EncodedSnippets:
    """Cut each text into a prompt, BOS and its first `prompt_tokens` - 1 tokens, and a response, the rest.

    The response ends with EOS if the rest of the text and EOS fit into `response_tokens`; otherwise it is
    truncated, without EOS. Texts of fewer than `prompt_tokens` tokens leave no response and are dropped.

    Args:
        texts: [texts] strings.
        prompt_tokens: tokens of a prompt, BOS included.
        response_tokens: room for a response, EOS included.

    Raises:
        InputError: `prompt_tokens` or `response_tokens` below 1, or a text that is not writable as UTF-8.
    """
    require(prompt_tokens >= 1, f"prompt_tokens = {prompt_tokens}: allowed is 1 (BOS alone) or more")
    require(response_tokens >= 1, f"response_tokens = {response_tokens}: allowed is 1 or more")
    encoded = encode_batch(tokenizer, texts)
    index = np.array([i for i, ids in enumerate(encoded) if len(ids) >= prompt_tokens], dtype=np.int64)
    prompt = np.full((len(index), prompt_tokens), BOS, dtype=np.int32)
    response = np.full((len(index), response_tokens), PAD, dtype=np.int32)
    length = np.zeros(len(index), dtype=np.int32)
    complete = np.zeros(len(index), dtype=bool)
    for row, i in enumerate(index):
        prompt[row, 1:] = encoded[i][: prompt_tokens - 1]
        ended = [*encoded[i][prompt_tokens - 1 :], EOS]
        kept = ended[:response_tokens]
        response[row, : len(kept)] = kept
        length[row] = len(kept)
        complete[row] = len(kept) == len(ended)
    return EncodedSnippets(prompt, response, length, complete, index)


def _never_match_specials(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.encode_special_tokens = True  # not kept by the library's JSON
    return tokenizer


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
