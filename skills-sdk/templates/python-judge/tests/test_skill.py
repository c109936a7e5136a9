"""Unit tests: the judge as plain Python. Run them with `python3 -m unittest`."""

import unittest

from chimera_skill import Case, Failure, fake_judge_context
from skill import evaluate


class TheJudge(unittest.TestCase):
    def test_spaces_say_nothing(self):
        verdict = evaluate(Case(output={"text": " " * 100}), fake_judge_context())
        self.assertEqual(verdict.decision, "retry")

    def test_it_logs_whose_text_it_is(self):
        ctx = fake_judge_context()
        evaluate(Case(skill="acme/draft", output={"text": "hello"}), ctx)
        self.assertEqual(ctx.host.logged, [("info", "5 characters by acme/draft")])

    def test_what_is_no_text_is_not_judged(self):
        with self.assertRaises(Failure) as raised:
            evaluate(Case(output=["hello"]), fake_judge_context())
        self.assertEqual(raised.exception.code, "no-text")


if __name__ == "__main__":
    unittest.main()
