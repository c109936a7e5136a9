"""Judges whether a text is long enough. Start here: change `evaluate`, then the self-tests in skill.toml.

Import what you need at the top of a module: in the sandbox there are no files, so nothing can be imported later.
There is no clock, no randomness and no network either: the same case gives the same verdict.
"""

from chimera_skill import Case, Failure, JudgeContext, Verdict

#: Fewer characters say nothing.
ENOUGH = 20


def evaluate(case: Case, ctx: JudgeContext) -> Verdict:
    """Judges whether a text is long enough to say anything."""
    text = case.output.get("text") if isinstance(case.output, dict) else None
    if not isinstance(text, str):
        raise Failure("invalid-input", "no-text", "The output has no text; this judge judges nothing else.")
    length = len(text.strip())
    ctx.log(f"{length} characters by {case.skill}")
    if length < ENOUGH:
        return Verdict("retry", f"The text has {length} characters; fewer than {ENOUGH} say nothing.")
    if case.confidence < 0.5:
        return Verdict("escalate", "The skill itself doubts its text.", confidence=0.7)
    return Verdict("approve", "The text is long enough to say something.", confidence=0.95)
