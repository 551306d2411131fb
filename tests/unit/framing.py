"""Frames a text as scripts do (`answer` in common.sh)."""

from __future__ import annotations

from etcd_cluster.member.answers import BEGIN, END


def framed(text: str) -> str:
    content = text.rstrip("\n")
    return f"\n{BEGIN}\n{content}\n{END} {len(content.encode('ascii', 'ignore'))}\n"
