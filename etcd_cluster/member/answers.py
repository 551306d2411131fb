"""Reads what a step's script printed, out of whatever else a machine's log-in prints around it.

A script frames its answer (`answer` in scripts/common.sh): a line before it, and one after it with its length. Anything
without that frame is no answer: an echo in a login file, a session that was cut, a shell that does not run scripts.
"""

from __future__ import annotations

import re

from etcd_cluster.errors import EtcdClusterError, Explanation

BEGIN = "etcd-cluster answers:"
END = "etcd-cluster answered, ASCII bytes:"
SHOWN = 200
BUSY = 75
"""A script ends with this, before it does anything, while a step of another run is at work on its machine."""


class NoAnswerError(EtcdClusterError):
    """A machine's output holds no whole answer."""


def framed_answer(text: str, step: str) -> str:
    """Returns what a script answered: a text that ends with a newline, or "".

    Args:
        text: All that the machine printed to standard output.
        step: What was asked, such as "host-1: observe", for the error.

    Raises:
        NoAnswerError: There is no answer, or only a part of one. The error shows what came in its place.
    """
    content, is_there, length = text.rpartition(f"\n{BEGIN}\n")[2].partition(f"\n{END} ")
    digits = re.match(r"\d+", length)
    if is_there and digits and len(content.encode("ascii", "ignore")) == int(digits[0]):
        return f"{content}\n" if content else ""
    came = text.strip()[-SHOWN:]
    raise NoAnswerError(
        str(
            Explanation(
                f"{step}: its machine printed {came!r} in place of a whole answer",
                "what the script prints, with a line before and after it",
                "find what else prints or ends there, such as a login file or a forced command, then run again",
            )
        )
    )


def answered_facts(answer: str) -> dict[str, str]:
    """Returns name -> value of an answer's NAME=VALUE lines. Other lines do not count."""
    return dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
