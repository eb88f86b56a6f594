"""The ranker's laws, on documents made by hand: no engine takes part."""

from __future__ import annotations

from sicargabox_core.search.document import Step, TariffDocument, Term, TermGroup, TermSource
from sicargabox_core.search.engine import Candidate
from sicargabox_core.search.evidence import blocks, clauses, read, stored
from sicargabox_core.search.explain import reason
from sicargabox_core.search.query import interpret, parse
from sicargabox_core.search.ranking import Hit, rank
from sicargabox_core.search.vocabulary import Vocabulary, VocabularyBuilder


def line(
    code: str,
    wording: str = "",
    *,
    heading: str = "",
    english: str = "",
    terms: tuple[tuple[str, TermSource], ...] = (),
    language: str = "es",
) -> TariffDocument:
    group = TermGroup(
        code=code, terms=tuple(Term(text=text, language=language, source=source) for text, source in terms)
    )
    return TariffDocument(
        code=code,
        description_es=wording,
        description_en=english,
        path=(Step(code=code[:4], es=heading),) if heading else (),
        terms=(group,) if terms else (),
        courier_category="ALLOWED",
    )


def vocabulary(documents: list[TariffDocument]) -> Vocabulary:
    builder = VocabularyBuilder()
    for document in sorted(documents, key=lambda item: item.code):
        builder.add(document.heading, blocks(document))
    return builder.build()


def search(text: str, *documents: TariffDocument) -> list[Hit]:
    query = interpret(parse(text), vocabulary(list(documents)))
    return rank(query, [Candidate(document.code, read(stored(blocks(document)))) for document in documents])


def codes(text: str, *documents: TariffDocument) -> list[str]:
    return [hit.code for hit in search(text, *documents)]


def test_an_exact_word_beats_another_form_and_that_beats_a_similar_word() -> None:
    exact = line("8501000000", terms=(("bocinas", "lexicon"),))
    form = line("8502000000", terms=(("bocina", "lexicon"),))
    hits = search("bocinas", exact, form)
    assert [hit.code for hit in hits] == ["8501000000", "8502000000"]
    similar = search("bozinas", exact)
    assert similar[0].score < hits[1].score


def test_another_number_of_the_word_beats_another_word_with_the_same_stem() -> None:
    shoe = line("6403990000", terms=(("zapato", "lexicon"),))
    brake_shoes = line("3101000000", terms=(("zapatas", "starter"),))
    assert codes("zapatos", brake_shoes, shoe) == ["6403990000", "3101000000"]
    assert codes("zapata", brake_shoes, shoe) == ["3101000000", "6403990000"]


def test_accents_and_case_make_no_difference() -> None:
    document = line("8518000000", "Audífonos")
    assert search("AUDIFONOS", document)[0].score == search("audífonos", document)[0].score


def test_a_whole_keyword_beats_a_part_of_one() -> None:
    phone = line("8517000000", terms=(("celular", "lexicon"),))
    case = line("4202000000", terms=(("funda de celular", "lexicon"),))
    assert codes("celular", case, phone)[0] == "8517000000"
    assert codes("funda de celular", phone, case)[0] == "4202000000"


def test_a_keyword_beats_official_wording_and_that_beats_a_parent_s() -> None:
    keyword = line("8501000000", terms=(("bocina", "staff"),))
    own = line("8502000000", "Bocina")
    parent = line("8503000000", "Los demás", heading="Bocina")
    assert codes("bocina", parent, own, keyword) == ["8501000000", "8502000000", "8503000000"]


def test_a_line_that_says_only_others_is_found_by_its_parents() -> None:
    assert codes("bocina", line("8518290000", "Los demás", heading="Bocinas y micrófonos")) == ["8518290000"]


def test_the_catch_all_line_comes_before_one_that_names_something_else() -> None:
    other = line("8518290000", "Los demás", heading="Bocinas")
    named = line("8518210000", "De madera", heading="Bocinas")
    assert codes("bocina", named, other) == ["8518290000", "8518210000"]


def test_a_line_of_parts_comes_after_whole_goods_unless_parts_are_meant() -> None:
    parts = line("8518900000", "Partes", heading="Bocinas")
    whole = line("8518990000", "Los demás", heading="Bocinas")
    assert codes("bocina", parts, whole)[0] == "8518990000"
    assert codes("partes de bocina", parts, whole)[0] == "8518900000"


def test_what_wording_excludes_is_not_found_by_it() -> None:
    assert list(clauses("Guantes, excepto los de boxeo; gorros (distintos de los de lana)")) == ["Guantes", "gorros"]
    assert codes("boxeo", line("4203000000", "Guantes, excepto los de boxeo"), line("9506000000", "Boxeo")) == [
        "9506000000"
    ]


def test_what_goods_are_for_is_not_what_they_are() -> None:
    of_cameras = line("9006910000", "De cámaras")
    camera = line("8525800000", terms=(("cámara", "lexicon"),))
    assert codes("cámara", of_cameras, camera)[0] == "8525800000"


def test_words_of_two_languages_do_not_meet_by_their_stems() -> None:
    frogs = line("0208000000", terms=(("frog legs", "lexicon"),), language="en")
    toys = line("9503000000", terms=(("lego", "lexicon"),))
    assert codes("lego", frogs, toys) == ["9503000000"]


def test_spanish_and_english_may_be_mixed_in_one_query() -> None:
    both = line("8518000000", terms=(("audífonos", "lexicon"),))
    english = line("8517000000", terms=(("wireless", "lexicon"),), language="en")
    wanted = line("8519000000", terms=(("audífonos", "lexicon"),), english="Wireless sets")
    assert codes("audífonos wireless", both, english, wanted)[0] == "8519000000"


def test_no_heading_comes_twice_before_every_heading_came_once() -> None:
    documents = [
        line(f"85{heading}{at}00000", "Bocina", heading="Bocinas") for heading in (17, 18, 19) for at in range(4)
    ]
    found = [code[:4] for code in codes("bocina", *documents)]
    assert sorted(found[:3]) == ["8517", "8518", "8519"]
    assert len(found) == 12


def test_words_that_no_line_knows_give_no_hits() -> None:
    assert codes("xqzzk qwrtp", line("8518000000", "Bocina")) == []


def test_an_unknown_word_does_not_hide_what_the_others_find() -> None:
    assert codes("bocina xqzzk", line("8518000000", "Bocina")) == ["8518000000"]


def test_an_exact_code_comes_first_and_its_beginning_finds_all_below() -> None:
    documents = [Candidate(code, ()) for code in ("8517130000", "8517140000", "8517110000")]
    assert [hit.code for hit in rank(parse("8517"), documents)] == ["8517110000", "8517130000", "8517140000"]
    exact = rank(parse("8517.13.00.00"), documents[:1])
    assert exact[0].score == 1.0


def test_every_hit_names_the_word_what_it_met_and_where_that_came_from() -> None:
    sources: tuple[TermSource, ...] = ("lexicon", "starter", "generated", "learned", "staff")
    said = {reason(search("bocina", line("8518000000", terms=(("bocina", source),)))[0], "es") for source in sources}
    assert len(said) == len(sources)
    assert all(sentence.startswith("«bocina» coincide con «bocina» (") for sentence in said)
    assert reason(search("bozina", line("8518000000", "Bocina"))[0], "en") == (
        "“bozina” was read as “bocina”, “bozina” is in the wording of this line."
    )
    assert reason(search("bocina", line("8518000000", "Los demás", heading="Bocinas"))[0], "es") == (
        "«bocina» está en el texto de 8518."
    )


def test_a_brand_pulls_less_than_what_is_written() -> None:
    group = TermGroup(code="6404", terms=(Term(text="Nike", language="", source="brand", note="tenis|sneakers"),))
    shoes = line("6404000000", "Los demás").model_copy(update={"terms": (group,)})
    socks = line("6115000000", "Calcetines")
    assert codes("nike", shoes, socks) == ["6404000000"]
    assert codes("calcetines nike", shoes, socks)[0] == "6115000000"
    assert reason(search("nike", shoes)[0], "en") == "“nike” is a brand known for: sneakers."


def test_a_brand_of_several_words_pulls_no_more_than_one_of_one() -> None:
    group = TermGroup(code="8510", terms=(Term(text="philips norelco", language="", source="brand", note="|"),))
    razors = line("8510000000", "Los demás").model_copy(update={"terms": (group,)})
    tar = line("2704000000", terms=(("coque", "lexicon"),))
    assert codes("coque philips norelco", razors, tar)[0] == "2704000000"
    assert codes("philips norelco", razors, tar) == ["8510000000"]


def test_all_headings_that_a_whole_term_means_come_before_lines_that_name_it_in_passing() -> None:
    def generic(code: str, weight: float) -> TariffDocument:
        group = TermGroup(code=code[:4], terms=(Term(text="bebida", language="es", source="lexicon", weight=weight),))
        return line(code, "Los demás").model_copy(update={"terms": (group,)})

    likely, less = generic("2202000000", 0.7), generic("2009000000", 0.5)
    passing = line("8419000000", "Bebidas frías")
    assert codes("bebida", passing, less, likely) == ["2202000000", "2009000000", "8419000000"]


def test_the_last_of_english_words_names_the_goods() -> None:
    dog = line("0106000000", terms=(("dog", "lexicon"),), language="en")
    bed = line("9404000000", terms=(("bed", "lexicon"),), language="en")
    assert codes("dog bed", dog, bed)[0] == "9404000000"
    assert codes("bed for dog", dog, bed)[0] == "9404000000"
