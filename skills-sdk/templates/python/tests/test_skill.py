"""Unit tests: the skill as plain Python, with a host that answers from a list. Run them with `python3 -m unittest`."""

import unittest

from chimera_skill import Failure, fake_context
from skill import run


class TheSkill(unittest.TestCase):
    def test_the_most_frequent_word_comes_first(self):
        outcome = run({"text": "to be or not to be, to", "top": 2}, fake_context())
        self.assertEqual(outcome.output, {"words": 7, "top": ["to", "be"]})

    def test_it_logs_what_it_does(self):
        ctx = fake_context()
        run({"text": "hello"}, ctx)
        self.assertEqual(ctx.host.logged, [("info", "counting 1 words")])

    def test_a_text_without_words_is_refused(self):
        with self.assertRaises(Failure) as raised:
            run({"text": "…"}, fake_context())
        self.assertEqual(raised.exception.code, "no-words")


if __name__ == "__main__":
    unittest.main()
