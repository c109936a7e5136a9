"""Key phrases of texts by RAKE (Rose, Engel, Cramer, Cowley: Automatic Keyword Extraction, 2010).

A candidate is a run of words between stop words and punctuation. A word scores its degree (the words it stands with in
candidates, itself included) over its frequency; a phrase scores the sum of its words. The same phrases in other cases
are one, and ties are broken by frequency, then by the alphabet, so the result never depends on chance.
"""

import re
from collections import Counter, defaultdict

from chimera_skill import Context, Failure, Outcome
from stopwords import STOPWORDS

#: Longest candidate, in words: longer runs are lists and headlines, not phrases.
MOST_WORDS = 4
#: Most different candidates that are scored; more come only from texts that are no prose.
MOST_CANDIDATES = 50_000

WORD = re.compile(r"[^\W_]+(?:['’\-][^\W_]+)*")
#: A candidate ends at anything but spaces between two words.
GAP = re.compile(r"[^\S\r\n]+")


def run(input: dict, ctx: Context) -> Outcome:
    """Finds the key phrases of the texts."""
    texts = input["texts"]
    stopwords = STOPWORDS[input.get("language", "en")]
    phrases, shown = Counter(), {}
    words = 0
    for at, text in enumerate(texts):
        for candidate in candidates(text, stopwords):
            folded = tuple(word.lower() for word in candidate)
            words += len(folded)
            if folded in phrases or len(phrases) < MOST_CANDIDATES:
                phrases[folded] += 1
                shown.setdefault(folded, " ".join(candidate))
        ctx.progress((at + 1) / len(texts), f"text {at + 1} of {len(texts)}")
    if not phrases:
        raise Failure("invalid-input", "no-phrases", "The texts have no words but stop words and numbers.")

    scores = phrase_scores(phrases)
    least = input.get("min_count", 1)
    ranked = sorted(
        (phrase for phrase in phrases if phrases[phrase] >= least),
        key=lambda phrase: (-scores[phrase], -phrases[phrase], phrase),
    )
    best = [
        {"phrase": shown[phrase], "score": round(scores[phrase], 4), "count": phrases[phrase]}
        for phrase in ranked[: input.get("max", 10)]
    ]
    return Outcome({"keywords": best, "candidates": len(phrases)}, confidence(words, best), reasons(words, phrases))


def candidates(text: str, stopwords: frozenset):
    """The runs of words between stop words, numbers and punctuation, at most `MOST_WORDS` long."""
    run, end = [], 0
    for match in WORD.finditer(text):
        word = match.group()
        if run and not GAP.fullmatch(text, end, match.start()):
            yield from fitting(run)
            run = []
        end = match.end()
        if word.lower() in stopwords or len(word) < 2 or word.isnumeric():
            yield from fitting(run)
            run = []
        else:
            run.append(word)
    yield from fitting(run)


def fitting(run: list):
    """The run, if it is a phrase."""
    if 0 < len(run) <= MOST_WORDS:
        yield tuple(run)


def phrase_scores(phrases: Counter) -> dict:
    """Degree over frequency of each word, summed over each phrase."""
    frequency, degree = defaultdict(int), defaultdict(int)
    for phrase, count in phrases.items():
        for word in phrase:
            frequency[word] += count
            degree[word] += len(phrase) * count
    return {phrase: sum(degree[word] / frequency[word] for word in phrase) for phrase in phrases}


def confidence(words: int, best: list) -> float:
    """Co-occurrence says little of a few words, and a phrase that comes twice says more than one that comes once."""
    if not best:
        return 0.3
    amount = min(1.0, words / 50)
    repeated = sum(1 for one in best if one["count"] > 1) / len(best)
    return round(0.5 + 0.3 * amount + 0.15 * repeated, 3)


def reasons(words: int, phrases: Counter) -> list:
    """What the confidence was computed of."""
    again = sum(1 for count in phrases.values() if count > 1)
    return [f"{len(phrases)} candidate phrases of {words} words", f"{again} of them come more than once"]
