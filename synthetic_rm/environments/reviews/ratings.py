"""The human-rated snippets: read, checked, lower-cased, and split into training, validation and test."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from synthetic_rm.errors import InputError, require
from synthetic_rm.reading import read_bytes, unzipped

DATA_PATH = Path(__file__).parent / "data" / "human_ratings.tsv.gz"
DATA_SHA256 = "05e4a90c1311f5e389ecbe742e1b2ffa736f0a89a94f66d878015639de56f9de"  # of the uncompressed table
COLUMNS = ("domain", "id", "ratings", "text")
MIN_RATING, MAX_RATING = -4, 4


class Snippet(NamedTuple):
    """A rated text: `domain`, `id` within it, lower-cased `text`, and one rating in -4..4 per rater."""

    domain: str
    id: str
    text: str
    ratings: tuple[int, ...]


class Splits(NamedTuple):
    """Disjoint parts of the snippets, each sorted by domain and id."""

    train: list[Snippet]
    validation: list[Snippet]
    test: list[Snippet]


def load_snippets(path: Path | None = None) -> list[Snippet]:
    """Read rated snippets, texts lower-cased, in the order of the file.

    Args:
        path: a table with the columns domain, id, ratings (integers in -4..4, space separated) and text,
            separated by tabs, with that header, UTF-8, gzip-compressed if the name ends in ".gz". None reads
            the table that ships with the package, whose uncompressed SHA-256 must be `DATA_SHA256`.

    Raises:
        InputError: the file is missing or damaged, or has another hash (shipped table only) or a malformed
        row.
    """
    source = DATA_PATH if path is None else Path(path)
    table = _read(source)
    if path is None:
        found = hashlib.sha256(table).hexdigest()
        require(found == DATA_SHA256, f"{source}: SHA-256 is {found}, expected {DATA_SHA256}")
    try:
        lines = table.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 ({error.reason} at byte {error.start})") from error
    header = tuple(lines[0].rstrip("\r").split("\t"))
    require(header == COLUMNS, f"{source}: header is {header}, expected {COLUMNS}, tab separated")
    rows = ((number, line.rstrip("\r")) for number, line in enumerate(lines[1:], start=2))
    snippets = [_parse(line, f"{source}, line {number}") for number, line in rows if line]
    require(bool(snippets), f"{source}: holds no snippets")
    return snippets


def split_snippets(
    snippets: Sequence[Snippet], *, seed: int = 0, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
) -> Splits:
    """Split the snippets at random into training, validation and test, stratified by domain.

    Within a domain the distinct texts are ordered by SHA-256 of (seed, text) and cut at the cumulative
    fractions, so the split depends on neither the order of the input nor a random number generator's version.
    All snippets with one text land in one split; a text found in several domains is counted in the
    alphabetically first.

    Args:
        snippets: any order.
        seed: another seed gives an independent split.
        fractions: of the distinct texts of each domain; not negative, sum 1.

    Raises:
        InputError: fractions that are negative or do not sum to 1.
    """
    valid = len(fractions) == 3 and min(fractions) >= 0 and math.isclose(sum(fractions), 1, abs_tol=1e-9)
    require(valid, f"fractions = {fractions}: allowed are three numbers, none negative, that sum to 1")
    home: dict[str, str] = {}
    for snippet in snippets:
        home[snippet.text] = min(snippet.domain, home.get(snippet.text, snippet.domain))
    texts_of: dict[str, list[str]] = {}
    for text, domain in home.items():
        texts_of.setdefault(domain, []).append(text)
    part_of: dict[str, int] = {}
    for texts in texts_of.values():
        ordered = sorted(texts, key=lambda text: _shuffle_key(seed, text))
        cuts = [round(len(texts) * fractions[0]), round(len(texts) * (fractions[0] + fractions[1]))]
        part_of |= {text: sum(rank >= cut for cut in cuts) for rank, text in enumerate(ordered)}
    parts: tuple[list[Snippet], ...] = ([], [], [])
    for snippet in sorted(snippets):
        parts[part_of[snippet.text]].append(snippet)
    return Splits(*parts)


def _shuffle_key(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{text}".encode()).digest()


def _read(source: Path) -> bytes:
    expected = f", expected a table with SHA-256 {DATA_SHA256}" if source == DATA_PATH else ""
    try:
        content = read_bytes(source)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}){expected}") from error
    except InputError as error:
        raise InputError(f"{source}: {error}{expected}") from error
    try:
        return unzipped(content) if source.suffix == ".gz" else content
    except InputError as error:
        found = hashlib.sha256(content).hexdigest()
        raise InputError(f"{source}: {error}, its SHA-256 is {found}{expected}") from error


def _parse(line: str, where: str) -> Snippet:
    fields = line.split("\t")
    require(len(fields) == len(COLUMNS), f"{where}: {len(fields)} columns, expected {len(COLUMNS)}")
    domain, identity, listed, text = fields
    require(bool(domain and identity and text.strip()), f"{where}: domain, id and text must not be empty")
    try:
        ratings = tuple(int(rating) for rating in listed.split())
    except ValueError:
        raise InputError(f"{where}: ratings are {listed!r}, expected integers in -4..4") from None
    valid = bool(ratings) and min(ratings) >= MIN_RATING and max(ratings) <= MAX_RATING
    require(valid, f"{where}: ratings are {listed!r}, expected one or more integers in -4..4")
    return Snippet(domain, identity, text.lower(), ratings)
