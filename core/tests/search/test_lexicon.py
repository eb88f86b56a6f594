from __future__ import annotations

from pathlib import Path

import pytest

from sicargabox_core.errors import DataFault
from sicargabox_core.lexicon.loader import Lexicon

HEAD = {
    "goods/85.csv": "term,lang,region,codes,kind,note\n",
    "brands.csv": "brand,code,goods_es,goods_en\n",
}


def write(folder: Path, name: str, rows: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEAD[name] + rows)
    return folder


@pytest.fixture(autouse=True)
def lexicon() -> None:
    """These laws are about the loader itself."""


def test_words_hold_for_everything_below_their_code(tmp_path: Path) -> None:
    rows = "bocina,es,,8518,word,\nparlante,es,,8518,word,\nspeaker,en,,8518,word,\naudífonos,es,,851830,word,\n"
    lexicon = Lexicon.load(write(tmp_path, "goods/85.csv", rows))
    assert [(term.text, term.code) for term in lexicon.terms("8518300000")] == [
        ("bocina", "8518"),
        ("parlante", "8518"),
        ("speaker", "8518"),
        ("audífonos", "851830"),
    ]
    assert [term.language for term in lexicon.terms("8518210000")] == ["es", "es", "en"]
    assert lexicon.terms("8519") == []


def test_a_word_of_several_headings_has_a_weight_in_each_and_keeps_its_regions(tmp_path: Path) -> None:
    lexicon = Lexicon.load(write(tmp_path, "goods/85.csv", "plancha,es,hn|mx,8516:1|8515:0.35,generic,welding too\n"))
    (ironing,), (welding,) = lexicon.terms("8516400000"), lexicon.terms("8515")
    assert (ironing.weight, welding.weight) == (1, 0.35)
    assert ironing.regions == ("hn", "mx")
    assert ironing.kind == "generic"


def test_a_brand_s_most_typical_goods_come_first(tmp_path: Path) -> None:
    rows = "jbl,851822,bocina,speaker\njbl,851830,audífonos,headphones\n"
    lexicon = Lexicon.load(write(tmp_path, "brands.csv", rows))
    assert [(brand.code, brand.rank) for brand in lexicon.brands["jbl"]] == [("851822", 0), ("851830", 1)]
    assert [brand.name for brand in lexicon.brands_by_code["851830"]] == ["jbl"]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("goods/85.csv", "bocina,es,,85.18,word,\n"),
        ("goods/85.csv", "bocina,es,,9018,word,\n"),
        ("goods/85.csv", "bocina,es,,8518:1.2,word,\n"),
        ("goods/85.csv", "bocina,es,,,word,\n"),
        ("goods/85.csv", "bocina,fr,,8518,word,\n"),
        ("goods/85.csv", "bocina,es,Honduras,8518,word,\n"),
        ("goods/85.csv", "bocina,es,,8518,noun,\n"),
        ("goods/85.csv", "Bocina,es,,8518,word,\n"),
        ("goods/85.csv", "bocina,es,,8518\n"),
        ("goods/85.csv", "bocina,es,,8518,word,,more\n"),
        ("brands.csv", "jbl,,bocina,speaker\n"),
    ],
)
def test_a_row_of_another_form_is_named(tmp_path: Path, name: str, rows: str) -> None:
    with pytest.raises(DataFault, match=f"{Path(name).name}, row 2"):
        Lexicon.load(write(tmp_path, name, rows))


def test_a_file_with_other_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "goods").mkdir()
    (tmp_path / "goods" / "85.csv").write_text("codigo,es,en\n")
    with pytest.raises(DataFault, match="codigo"):
        Lexicon.load(tmp_path)


def test_the_packaged_vocabulary_is_whole_and_read_once() -> None:
    lexicon = Lexicon.load()
    assert lexicon is Lexicon.load()
    assert len(lexicon.by_code) > 500
    assert len(lexicon.brands) > 200
    assert "audífonos bluetooth" in {term.text for term in lexicon.terms("8518300000")}
