"""Reads what to ask about words that are too vague to classify: the words, the questions, the answers to choose from.

The files travel inside the package, in ``guidance/``: ``questions.csv`` (``question,es,en``), ``choices.csv``
(``question,label_es,label_en,words_es,words_en,codes``) and ``terms.csv`` (``term,lang,use,question``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sicargabox_core.errors import DataFault
from sicargabox_core.lexicon.loader import LANGUAGES, rows_of

_FOLDER = Path(__file__).parent / "guidance"
ALONE, HEAD, EMPTY = "alone", "head", "empty"
_USES = (ALONE, HEAD, EMPTY)
_CODES = re.compile(r"\d{2}(\d{2})?(\|\d{2}(\d{2})?)*")
TERM_PLACE = "{}"
"""Where the term itself stands in a choice's words; words without it take the term's place."""


@dataclass(frozen=True, eq=False)
class GuidanceChoice:
    """An answer: its labels, the words that it searches for, and the headings or chapters they lead to."""

    label_es: str
    label_en: str
    words_es: str
    words_en: str
    codes: tuple[str, ...]

    def label(self, language: str) -> str:
        """As people read it."""
        return self.label_en if language == "en" else self.label_es

    def words(self, language: str, term: str) -> str:
        """What is searched for instead of ``term``."""
        return (self.words_en if language == "en" else self.words_es).replace(TERM_PLACE, term)


@dataclass(frozen=True, eq=False)
class GuidanceQuestion:
    """What is asked, with its choices in the order in which they are shown."""

    name: str
    es: str
    en: str
    choices: tuple[GuidanceChoice, ...]

    def text(self, language: str) -> str:
        """As people read it."""
        return self.en if language == "en" else self.es


@dataclass(frozen=True, eq=False)
class VagueTerm:
    """A word or phrase that wants a question.

    ``use`` alone: when nothing else is said ("crema"); empty: so too, and beside another such word it adds nothing
    ("crema de regalo"); head: when it names the goods and what else is said does not decide ("camisa azul": knitted or
    woven?).
    """

    text: str
    language: str
    use: str
    question: GuidanceQuestion


@lru_cache(maxsize=1)
def packaged_guidance() -> tuple[VagueTerm, ...]:
    """The terms in the package, read once per process."""
    return read_guidance(_FOLDER)


def read_guidance(folder: Path) -> tuple[VagueTerm, ...]:
    """The terms of a folder with their questions. Raises ``DataFault`` naming file and row of another form."""
    choices: dict[str, list[GuidanceChoice]] = {}
    columns = ("question", "label_es", "label_en", "words_es", "words_en", "codes")
    for number, row in rows_of(folder / "choices.csv", columns):
        if not all(row.values()) or not _CODES.fullmatch(row["codes"]):
            raise DataFault(f"choices.csv, row {number}: a text is missing, or codes are not such as 61 or 3926|4202")
        choices.setdefault(row["question"], []).append(
            GuidanceChoice(
                row["label_es"], row["label_en"], row["words_es"], row["words_en"], tuple(row["codes"].split("|"))
            )
        )
    questions: dict[str, GuidanceQuestion] = {}
    for number, row in rows_of(folder / "questions.csv", ("question", "es", "en")):
        name = row["question"]
        if not all(row.values()) or name in questions or name not in choices:
            raise DataFault(
                f"questions.csv, row {number} ({name}): a text is missing, it is there twice or has no choice"
            )
        questions[name] = GuidanceQuestion(name, row["es"], row["en"], tuple(choices.pop(name)))
    if choices:
        raise DataFault(f"choices.csv has choices of {', '.join(choices)}, which questions.csv lacks")
    terms = []
    for number, row in rows_of(folder / "terms.csv", ("term", "lang", "use", "question")):
        text = row["term"]
        if not text or text != text.lower() or row["lang"] not in LANGUAGES or row["use"] not in _USES:
            raise DataFault(
                f"terms.csv, row {number} ({text}): a term is in lower case, its language one of "
                f"{', '.join(sorted(LANGUAGES))} and its use one of {', '.join(_USES)}"
            )
        if row["question"] not in questions:
            raise DataFault(f"terms.csv, row {number} ({text}): there is no question {row['question']}")
        terms.append(VagueTerm(text, row["lang"], row["use"], questions[row["question"]]))
    return tuple(terms)
