"""Tables of pages are what the code declares: every key, with its default and limits."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import fields

import pytest

from etcd_cluster.stack_config import config_name
from scripts import pages


@pytest.mark.parametrize("name", pages.TABLES)
def test_a_page_has_the_table_that_the_code_declares(name: str) -> None:
    page = pages.DOCS / name
    made = pages.with_table(page.read_text(), pages.TABLES[name])
    assert pages.MARKED.search(made)
    if os.environ.get("UPDATE_GOLDEN"):
        page.write_text(made)
    assert page.read_text() == made, "UPDATE_GOLDEN=1 scripts/test tests/unit/test_pages.py writes it anew"


@pytest.mark.parametrize(
    "blocks",
    [pages.BLOCKS, pages.BACKUP_BLOCKS, pages.LOAD_CHECK_BLOCKS, pages.LOAD_CLIENT_BLOCKS, pages.MONITORING_BLOCKS],
    ids=["configuration.md", "backup.md", "load-check.md", "load-from-a-client.md", "monitoring.md"],
)
def test_every_field_has_a_key_in_the_table(blocks: Sequence[pages.Block]) -> None:
    table = pages.keys_table(blocks)
    for prefix, kind, left_out in blocks:
        for field in fields(kind):
            if field.name not in left_out:
                keys = pages.TWO_WAYS.get(field.name, (config_name(field.name),))
                assert all(f"`{prefix}{key}`" in table for key in keys), field.name


def test_no_word_of_python_is_on_the_page_of_config() -> None:
    table = pages.keys_table([*pages.BLOCKS, *pages.BACKUP_BLOCKS, *pages.RESTORE_BLOCKS, *pages.MONITORING_BLOCKS])
    assert re.findall(r"\b(?:None|True|False|Output|[a-z]+_[a-z]+)\b", table) == []
