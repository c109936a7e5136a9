"""Counts the words of a text. Start here: change `run`, then the schemas, then the self-tests in skill.toml.

Import what you need at the top of a module: in the sandbox there are no files, so nothing can be imported later.
There is no clock, no randomness and no network either: the same input gives the same output, and the outside is
reached through `ctx`.
"""

import re
from collections import Counter

from chimera_skill import Context, Failure, Outcome


def run(input: dict, ctx: Context) -> Outcome:
    """Counts the words of a text and names the most frequent ones."""
    words = re.findall(r"[^\W_]+", input["text"].lower())
    if not words:
        raise Failure("invalid-input", "no-words", "The text has no words to count.")
    ctx.log(f"counting {len(words)} words")

    counts = Counter(words)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    # Few words make a poor ranking: the confidence says so, and the judge decides by it.
    return Outcome(
        output={"words": len(words), "top": ranked[: input.get("top", 3)]},
        confidence=0.6 if len(words) < 5 else 0.95,
        evidence=[f"{len(counts)} different words"],
    )
