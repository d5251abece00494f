"""Which code can work with which schema."""

from __future__ import annotations

import pytest

from bot.store.revisions import Schema, SchemaTooNew, era, refuse_too_new


def test_a_dot_begins_an_era() -> None:
    assert [era(revision) for revision in ("0002", "0012.2", "0013.2", "0020.3")] == [1, 2, 2, 3]


@pytest.mark.parametrize(
    ("present", "newest", "known", "changes", "way_back"),
    [
        (None, "0002", True, True, True),
        ("0002", "0002", True, False, True),
        ("0002", "0003", True, True, True),
        ("0003", "0002", False, False, True),
        ("0003", "0004.2", True, True, False),
    ],
)
def test_what_becomes_of_a_database(
    present: str | None, newest: str, known: bool, changes: bool, way_back: bool
) -> None:
    schema = Schema(present, newest, known)
    assert (schema.changes, schema.way_back) == (changes, way_back)
    refuse_too_new(schema)


def test_a_database_of_a_later_era_is_refused() -> None:
    with pytest.raises(SchemaTooNew, match=r"revision 0004\.2"):
        refuse_too_new(Schema("0004.2", "0003", known=False))
