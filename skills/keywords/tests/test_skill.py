"""Unit tests, natively: `python3 -m unittest`."""

import unittest

from chimera_skill import Failure, fake_context
from skill import candidates, run
from stopwords import STOPWORDS


def phrases(text: str) -> list:
    return [" ".join(candidate) for candidate in candidates(text, STOPWORDS["en"])]


class Candidates(unittest.TestCase):
    def test_stop_words_and_punctuation_end_them(self):
        self.assertEqual(phrases("The old bridge, which is closed: cracks"), ["old bridge", "closed", "cracks"])

    def test_lines_and_numbers_end_them(self):
        self.assertEqual(phrases("stone bridge\nnew ferry 2024 timetable"), ["stone bridge", "new ferry", "timetable"])

    def test_words_keep_their_hyphens_and_apostrophes(self):
        self.assertEqual(phrases("a well-known city's council"), ["well-known city's council"])

    def test_long_runs_are_no_phrases(self):
        self.assertEqual(phrases("red green blue yellow purple"), [])


class TheSkill(unittest.TestCase):
    def test_it_scores_by_degree_over_frequency(self):
        output = run({"texts": ["deep learning models and learning"]}, fake_context()).output
        # learning: degree 3 + 1, frequency 2; deep and models: degree 3, frequency 1.
        self.assertEqual(output["keywords"][0], {"phrase": "deep learning models", "score": 8.0, "count": 1})
        self.assertEqual(output["keywords"][1], {"phrase": "learning", "score": 2.0, "count": 1})

    def test_more_text_is_surer(self):
        few = run({"texts": ["old bridge"]}, fake_context()).confidence
        many = run({"texts": ["the old bridge is closed"] * 30}, fake_context()).confidence
        self.assertLess(few, many)
        self.assertLessEqual(many, 1)

    def test_it_tells_how_far_it_is(self):
        ctx = fake_context()
        run({"texts": ["one bridge", "two bridges"]}, ctx)
        self.assertEqual([fraction for fraction, _ in ctx.host.reported], [0.5, 1.0])

    def test_nothing_to_find_is_refused(self):
        with self.assertRaises(Failure) as raised:
            run({"texts": [""]}, fake_context())
        self.assertEqual((raised.exception.kind, raised.exception.code), ("invalid-input", "no-phrases"))


if __name__ == "__main__":
    unittest.main()
