"""Laws of keywords and of what staff decide about them."""

from __future__ import annotations

import threading

import pytest
from core.tests.catalogue.lines import PHONE, RETIRED, SPEAKER, put_lines
from sqlalchemy import select

from sicargabox_core.accounts.models import AuditEntry
from sicargabox_core.catalogue import keywords
from sicargabox_core.catalogue.keywords import Proposal
from sicargabox_core.catalogue.models import Keyword, KeywordSource, KeywordState, Language
from sicargabox_core.catalogue.starter_catalogue import load_starter
from sicargabox_core.db import Database
from sicargabox_core.errors import Conflict, InvalidInput, NotFound, SicargaBoxError
from sicargabox_core.tasks.models import CounterRow

ES, EN = Language.SPANISH, Language.ENGLISH
ANA, BEA = "user:ana", "user:bea"


def _counter(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(CounterRow.value).where(CounterRow.name == "catalogue")) or 0


def _propose(
    database: Database, *proposals: Proposal, source: KeywordSource = KeywordSource.GENERATED
) -> keywords.Plan:
    with database.write() as session:
        plan = keywords.plan(session, proposals, source=source, by="task:test")
        keywords.carry_out(session, plan)
    return plan


def _only(database: Database) -> Keyword:
    with database.read() as session:
        return session.scalars(select(Keyword)).one()


def _proposed(database: Database, text: str = "celular") -> int:
    put_lines(database, PHONE)
    _propose(database, Proposal(PHONE, ES, text))
    return _only(database).id


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  Audífonos   USB-C ", "audifonos usb-c"),
        ("iPhone 15", "iphone 15"),
        ("Cañón", "canon"),
        ("cable 3.5mm, negro!", "cable 3.5mm negro"),
        ("C++", "c++"),
        ("H&M", "h&m"),
        ("«Teléfono»", "telefono"),
        ("-- --", ""),
        ("ＵＳＢ", "usb"),
        ("a\u0000b", "a b"),
    ],
)
def test_words_are_compared_without_case_and_accents_but_with_digits(text: str, normal: str) -> None:
    assert keywords.normalise(text) == normal
    assert keywords.normalise(normal) == normal


def test_a_staff_word_is_approved_at_once_and_leaves_a_trail(database: Database) -> None:
    put_lines(database, PHONE)
    before = _counter(database)
    with database.write() as session:
        keyword = keywords.add(session, line_code=PHONE, language=ES, text=" Celular  nuevo ", by=ANA)
        assert (keyword.state, keyword.source, keyword.text, keyword.normalized) == (
            KeywordState.APPROVED,
            KeywordSource.STAFF,
            "Celular nuevo",
            "celular nuevo",
        )
    assert _counter(database) == before + 1
    with database.read() as session:
        entry = session.scalars(select(AuditEntry)).one()
        assert (entry.actor, entry.action) == (ANA, "keyword.add")


@pytest.mark.parametrize("text", ["", "  ", "!!", "x" * 121, "\u0000"])
def test_a_word_that_is_none_is_refused(database: Database, text: str) -> None:
    put_lines(database, PHONE)
    with database.write() as session, pytest.raises(InvalidInput) as caught:
        keywords.add(session, line_code=PHONE, language=ES, text=text, by=ANA)
    assert caught.value.field == "text"


@pytest.mark.parametrize("code", ["9999999999", RETIRED])
def test_a_line_that_is_not_in_force_gets_no_word(database: Database, code: str) -> None:
    put_lines(database, RETIRED)
    with database.write() as session, pytest.raises(NotFound):
        keywords.add(session, line_code=code, language=ES, text="celular", by=ANA)


def test_the_same_word_with_other_case_and_accents_is_there_already(database: Database) -> None:
    put_lines(database, PHONE)
    with database.write() as session:
        keywords.add(session, line_code=PHONE, language=ES, text="teléfono", by=ANA)
    with pytest.raises(Conflict, match=ANA), database.write() as session:
        keywords.add(session, line_code=PHONE, language=ES, text="TELEFONO", by=BEA)


def test_adding_a_proposed_word_approves_it(database: Database) -> None:
    keyword_id = _proposed(database)
    with database.write() as session:
        added = keywords.add(session, line_code=PHONE, language=ES, text="Celular", by=ANA)
        assert (added.id, added.state, added.decided_by) == (keyword_id, KeywordState.APPROVED, ANA)


def test_adding_a_rejected_word_is_a_conflict(database: Database) -> None:
    keyword_id = _proposed(database)
    with database.write() as session:
        keywords.reject(session, keyword_id, by=ANA)
    with pytest.raises(Conflict, match="REJECTED"), database.write() as session:
        keywords.add(session, line_code=PHONE, language=ES, text="celular", by=BEA)


def test_of_two_who_decide_at_once_one_decides_and_the_other_is_told(database: Database) -> None:
    keyword_id = _proposed(database)
    outcomes: list[str] = []

    def decide(by: str) -> None:
        try:
            with database.write() as session:
                (keywords.approve if by == ANA else keywords.reject)(session, keyword_id, by=by)
        except Conflict as error:
            outcomes.append(error.code)
        else:
            outcomes.append(by)

    threads = [threading.Thread(target=decide, args=(by,)) for by in (ANA, BEA)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "conflict" in outcomes
    assert _only(database).decided_by in outcomes


def test_a_decision_is_not_taken_twice_and_names_who_took_it(database: Database) -> None:
    keyword_id = _proposed(database)
    with database.write() as session:
        keywords.approve(session, keyword_id, by=ANA)
    for decide in (keywords.approve, keywords.reject):
        with pytest.raises(Conflict, match=ANA), database.write() as session:
            decide(session, keyword_id, by=BEA)
    with database.write() as session:
        assert keywords.reject(session, keyword_id, by=BEA, seen=KeywordState.APPROVED).state == KeywordState.REJECTED


def test_undo_brings_back_the_state_before(database: Database) -> None:
    keyword_id = _proposed(database)
    with database.write() as session:
        keywords.approve(session, keyword_id, by=ANA)
    before = _counter(database)
    with database.write() as session:
        undone = keywords.undo(session, keyword_id, by=ANA)
        assert (undone.state, undone.decided_by) == (KeywordState.PENDING, None)
    assert _counter(database) == before + 1
    with pytest.raises(Conflict), database.write() as session:
        keywords.undo(session, keyword_id, by=ANA)


def test_undoing_the_rejection_of_a_starter_word_approves_it_again(database: Database) -> None:
    load_starter(database)
    with database.write() as session:
        keyword_id = session.scalars(select(Keyword.id).limit(1)).one()
        keywords.reject(session, keyword_id, by=ANA, seen=KeywordState.APPROVED)
        assert keywords.undo(session, keyword_id, by=ANA).state == KeywordState.APPROVED


@pytest.mark.parametrize("call", [keywords.approve, keywords.reject, keywords.undo])
def test_a_keyword_that_is_not_there_is_not_found(database: Database, call: object) -> None:
    assert callable(call)
    with pytest.raises(SicargaBoxError) as caught, database.write() as session:
        call(session, 4711, by=ANA)
    assert caught.value.code == "not_found"


@pytest.mark.parametrize("decide", [keywords.approve, keywords.reject])
def test_a_proposal_never_overwrites_what_staff_decided(database: Database, decide: object) -> None:
    assert callable(decide)
    keyword_id = _proposed(database)
    with database.write() as session:
        decide(session, keyword_id, by=ANA)
    before = _only(database)
    plan = _propose(database, Proposal(PHONE, EN, "CELULAR", {"people": 9}), source=KeywordSource.LEARNED)
    assert (plan.fresh, plan.stronger, plan.known) == ((), {}, 1)
    after = _only(database)
    assert (after.state, after.evidence, after.source) == (before.state, before.evidence, before.source)


def test_a_plan_made_before_a_decision_leaves_the_decision_alone(database: Database) -> None:
    keyword_id = _proposed(database)
    with database.read() as session:
        plan = keywords.plan(
            session, [Proposal(PHONE, ES, "celular", {"people": 3})], source=KeywordSource.LEARNED, by="task:t"
        )
    assert list(plan.stronger) == [keyword_id]
    with database.write() as session:
        keywords.reject(session, keyword_id, by=ANA)
    with database.write() as session:
        keywords.carry_out(session, plan)
    assert _only(database).evidence is None
    assert _only(database).state == KeywordState.REJECTED


def test_a_word_proposed_again_by_more_people_gets_the_better_evidence(database: Database) -> None:
    put_lines(database, PHONE)
    for people, stronger in ((3, 0), (3, 0), (5, 1), (4, 0)):
        plan = _propose(database, Proposal(PHONE, ES, "celular", {"people": people}), source=KeywordSource.LEARNED)
        assert len(plan.stronger) == stronger
    assert _only(database).evidence == {"people": 5}
    assert _only(database).state == KeywordState.PENDING


def test_proposals_that_cannot_be_kept_are_left_out(database: Database) -> None:
    put_lines(database, PHONE, RETIRED)
    plan = _propose(
        database,
        Proposal(PHONE, ES, "x" * 200),
        Proposal(PHONE, ES, "…"),
        Proposal(RETIRED, ES, "tocadiscos"),
        Proposal("9999999999", ES, "nada"),
        Proposal(PHONE, ES, "celular"),
        Proposal(PHONE, ES, "Celular"),
    )
    assert [row["text"] for row in plan.fresh] == ["celular"]


def test_a_list_is_paged_by_key_and_filtered(database: Database) -> None:
    put_lines(database, PHONE, SPEAKER)
    _propose(
        database,
        *(Proposal(PHONE, ES, f"palabra {number}") for number in range(5)),
        Proposal(SPEAKER, EN, "loud 100%"),
    )
    with database.read() as session:
        first = keywords.list_keywords(session, limit=4)
        second = keywords.list_keywords(session, limit=4, before=first.next_cursor)
        assert [len(first.items), len(second.items)] == [4, 2]
        assert second.next_cursor is None
        assert len({keyword.id for keyword in (*first.items, *second.items)}) == 6

        def found(**filters: object) -> list[str]:
            return [keyword.text for keyword in keywords.list_keywords(session, **filters).items]  # type: ignore[arg-type]  # mixed

        assert found(language=EN) == ["loud 100%"]
        assert found(line_code=SPEAKER) == ["loud 100%"]
        assert found(code_prefix="8517", contains="PALABRA 3") == ["palabra 3"]
        assert found(contains="100") == ["loud 100%"]
        assert found(code_prefix="%") == []
        assert found(states=[KeywordState.APPROVED]) == []
        assert len(found(sources=[KeywordSource.GENERATED, KeywordSource.STAFF])) == 6
        for wrong in ({"limit": 0}, {"limit": 201}, {"before": "x"}, {"before": "-1"}):
            with pytest.raises(InvalidInput):
                found(**wrong)
