"""What docs/search.md shows of the real search: worked examples and figures, as Markdown. Measures nothing itself.

Of the tariff only codes are quoted; reasons quote the query and our own vocabulary.
"""

from __future__ import annotations

from sicargabox_core.search.evaluate import Score, Share
from sicargabox_core.search.quality_report import Report, goals_of
from sicargabox_core.search.service import SearchService
from tests.settings import REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "search.md"
EXAMPLES_BEGIN, EXAMPLES_END = "<!-- examples:begin -->", "<!-- examples:end -->"
_SHOWN = 3

EXAMPLES: tuple[tuple[str, str], ...] = (
    ("8517.13", "A code, or how it begins, is looked up; no word is read into it."),
    ("audífonos bluetooth", "A whole entry of the vocabulary beats a part of one."),
    ("funda para celular", "What stands behind “para” says for what the goods are: the case, not the telephone."),
    ("cargador de laptop", "Likewise behind “de”, where it may also be a material and therefore counts more."),
    ("leche para bebé", "A set phrase of the vocabulary is stronger than its head noun alone."),
    ("zapatos de niño", "Shoes are several headings: one line of each before a second one."),
    ("women running shoes size 9 new", "English by its words; “size”, “new” and numbers weigh little."),
    ("iphone 15 pro max 256gb", "A model leads to its goods, and capacity and numbers to none."),
    ("charger para iphone", "Two languages in one query are one query: each word is looked up in both."),
    ("para brisas", "Written as two words, known as one, and the reason says so."),
    ("refrijerador", "An unknown word is read as the known one that it sounds like."),
    ("tornillos", "A vague word shows the several headings that it means."),
    ("xqzzk qwrtp", "Random letters find nothing: no hit is better than nonsense."),
)


def examples(service: SearchService) -> str:
    """Each query with its first hits, their scores and reasons."""
    parts = []
    for query, about in EXAMPLES:
        answer = service.search(query, limit=_SHOWN, lang="en")
        parts += [f"**{query}** – {about}", ""]
        if not answer["results"]:
            parts += ["Nothing is found.", ""]
            continue
        parts += ["| line | score | reason |", "|---|---|---|"]
        parts += [
            f"| `{result['display_code']}` | {result['score']:.3f} | {result['reason'].replace('|', '/')} |"
            for result in answer["results"]
        ]
        parts.append("")
    return "\n".join(parts).rstrip()


def figures_marks(engine: str) -> tuple[str, str]:
    """The marks between which the figures of one engine stand."""
    return f"<!-- {engine}:begin -->", f"<!-- {engine}:end -->"


def figures(report: Report) -> str:
    """The counted half by kind and language, and each goal."""
    rows = [("all", report.score(half="counted"))]
    rows += [(kind, report.score(half="counted", kind=kind)) for kind in report.kinds()]
    rows += [(f"language {lang}", report.score(half="counted", lang=lang)) for lang in report.languages()]
    lines = [
        "| queries | number | first | among 5 | among 10 | nothing found | MRR |",
        "|---|---|---|---|---|---|---|",
        *(_row(name, score) for name, score in rows),
        "",
        "| goal | bound | reached | |",
        "|---|---|---|---|",
    ]
    for one in goals_of(report):
        sign = "≤" if one.goal.measure == "none" else "≥"
        verdict = "met" if one.met else "**missed**"
        lines.append(f"| {one.goal.name} | {sign} {one.bound:.3f} | {one.value:.3f} | {verdict} |")
    return "\n".join(lines)


def _row(name: str, score: Score) -> str:
    shares = " | ".join(_share(one) for one in (score.hit1, score.hit5, score.hit10, score.none))
    return f"| {name} | {score.queries:,} | {shares} | {score.mrr:.3f} [{score.mrr_low:.2f}–{score.mrr_high:.2f}] |"


def _share(share: Share) -> str:
    return f"{share.value:.1%} [{share.low:.0%}–{share.high:.0%}]"


def between(begin: str, end: str) -> str:
    """What stands between two marks of the document."""
    _, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(begin)
    return rest.partition(end)[0].strip()
