"""docs/api.zh-CN.md: made from docs/api.md and the Chinese of each of its texts."""

import json

from write_api_twin import DOCS, TEXTS, Chinese, translated


def test_every_text_of_the_api_has_its_chinese_and_no_other_is_kept() -> None:
    chinese = Chinese(json.loads(TEXTS.read_text("utf-8")))
    page = translated((DOCS / "api.md").read_text("utf-8"), chinese)
    assert chinese.missing == [], "docs/api.zh-CN.json has the Chinese of each"
    assert chinese.unused == set()
    assert (DOCS / "api.zh-CN.md").read_text("utf-8") == page, "make docs-api writes it anew"


def test_all_but_code_is_translated() -> None:
    english = (
        "# A\n\n[中文](api.zh-CN.md)\n\nTwo\nlines.\n\n```python\nA(b)\n\nNo.\n```\n\nArgs:\n\n"
        "- `b`: What\n  it is.\n- Nothing.\n\n`a.c: int` – How many.\n\n"
        "| error | HTTP | |\n|---|---|---|\n| `A` | 500 | Ours. |\n"
    )
    texts = {"A": "甲", "Two lines.": "两行。", "Args:": "参数：", "What it is.": "是什么。"}
    texts |= {"How many.": "多少。", "error": "错误", "Ours.": "我们的。", "Gone.": "没了。"}
    chinese = Chinese(texts)
    assert translated(english, chinese) == (
        "# 甲\n\n[English](api.md)\n\n两行。\n\n```python\nA(b)\n\nNo.\n```\n\n参数：\n\n"
        "- `b`：是什么。\n- Nothing.\n\n`a.c: int`：多少。\n\n"
        "| 错误 | HTTP |  |\n|---|---|---|\n| `A` | 500 | 我们的。 |\n"
    )
    assert chinese.missing == ["- Nothing."]
    assert chinese.unused == {"Gone."}
