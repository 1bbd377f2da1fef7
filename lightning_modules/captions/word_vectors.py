"""Pretrained word vectors in the text formats of GloVe and word2vec."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from torch import Tensor, nn

from lightning_modules.captions.vocabulary import Vocabulary


class WordVectors(NamedTuple):
    """The vectors of those words of a vocabulary that a file has.

    Attributes:
        numbers: positions of the words in the vocabulary, int64 (M,), ascending.
        vectors: their vectors, float32 (M, E).
    """

    numbers: Tensor
    vectors: Tensor


def read_word_vectors(path: Path, words: Sequence[str], size: int) -> WordVectors:
    """Reads the vectors of some words from a text file: each line is a word and its numbers, separated by blanks.

    A first line of two integers, word2vec's number of words and size, is accepted. Words are compared as they are
    written, and a word that occurs twice counts the first time. Words that contain blanks, as some of GloVe's, are
    passed over. Only the numbers of the words asked for are parsed.

    Args:
        path: the file.
        words: the vocabulary.
        size: E, the size that the vectors must have.

    Raises:
        FileNotFoundError: no such file.
        ValueError: vectors of another size, a line that is not a word and its numbers, a file that is shorter than its
            first line says, or one without any of the words.
    """
    if not path.is_file():
        raise FileNotFoundError(f"embedding_weights={path}: there is no such file")
    positions = {word.encode(): position for position, word in enumerate(words)}
    found: dict[int, list[float]] = {}
    with path.open("rb") as file:
        for number, line in _vector_lines(file, path, size):
            if line.count(b" ") == size and line.partition(b" ")[0] not in positions:
                continue  # for speed: files have millions of words
            fields = line.rsplit(maxsplit=size)
            if len(fields) <= size or any(map(_is_number, fields[0].split()[1:])):
                raise _malformed(path, number, size)
            position = positions.get(fields[0])
            if position is not None and position not in found:
                found[position] = _parse(fields[1:], path, number)
    if not found:
        raise ValueError(
            f"embedding_weights={path}: has a vector of none of the {len(words)} words of the vocabulary, such as "
            f"{', '.join(map(repr, words[:3]))}; give vectors of the language of the captions"
        )
    numbers = sorted(found)
    return WordVectors(torch.tensor(numbers), torch.tensor([found[position] for position in numbers]))


def load_word_vectors(path: Path, embedding: nn.Embedding, vocabulary: Vocabulary) -> str:
    """Copies the vectors of a file into an embedding of V words, for those that the file has.

    Args:
        path: text file, as in `read_word_vectors`, which raises the errors.
        embedding: the embedding; vectors of other words, and of the special ones, stay as they are.
        vocabulary: the V words.

    Returns:
        One sentence: how many of the words have vectors, the share of those that have none, and the first of them.
    """
    found = read_word_vectors(path, vocabulary.tokens, embedding.embedding_dim)
    with torch.no_grad():
        weight = embedding.weight
        weight[(vocabulary.first_number + found.numbers).to(weight.device)] = found.vectors.to(weight)
    known, num_words = set(found.numbers.tolist()), len(vocabulary.tokens)
    missing = [word for number, word in enumerate(vocabulary.tokens) if number not in known]
    text = f"embedding_weights={path}: vectors of {len(known)} of {num_words} {vocabulary.units}"
    if not missing:
        return text
    examples = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
    return f"{text}; {100 * len(missing) / num_words:.1f} % start from random vectors: {examples}"


def _vector_lines(file: BinaryIO, path: Path, size: int) -> Iterator[tuple[int, bytes]]:
    """Yields the lines with their numbers in the file, from 1, without word2vec's header; checks header and size."""
    first = file.readline()
    header = first.split()
    has_header = len(header) == 2 and all(field.isdigit() for field in header)
    given = int(header[1]) if has_header else len(header) - 1
    # A first word with blanks has more fields than numbers; its last `size` ones are numbers nevertheless.
    if given != size and (has_header or given < 1 or all(map(_is_number, header[1:]))):
        if given < 1:
            raise _malformed(path, 1, size)
        raise ValueError(
            f"embedding_weights={path}: its vectors have {given} numbers, and embedding_size={size}; set "
            f"embedding_size: {given}"
        )
    number = 1
    if not has_header:
        yield number, first
    for number, line in enumerate(file, 2):
        if line.strip():
            yield number, line
    if has_header and number - 1 < int(header[0]):
        raise ValueError(
            f"embedding_weights={path}: its first line says {int(header[0])} words, and it has {number - 1}: was it "
            "copied whole?"
        )


def _parse(fields: Sequence[bytes], path: Path, number: int) -> list[float]:
    if not all(map(_is_number, fields)):
        raise _malformed(path, number, len(fields))
    return [float(field) for field in fields]


def _is_number(field: bytes) -> bool:
    try:
        return abs(float(field)) < float("inf")  # false for NaN
    except ValueError:
        return False


def _malformed(path: Path, number: int, size: int) -> ValueError:
    return ValueError(
        f"embedding_weights={path}: line {number} is not a word and {size} numbers; give a text file of GloVe or "
        "word2vec (a binary one must be converted)"
    )
