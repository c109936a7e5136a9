"""Between the contract and a judge in Python: what the component exports, and the way to its log.

Written into the build folder by `chimera skill build`; the author's module is `skill`, the helper `chimera_skill`. It fits
every version of the contract that is served: what a version has is looked up.
"""

import json

import chimera_skill
import skill
from componentize_py_types import Err
from wit_world.exports import evaluator
from wit_world.imports import progress, types

LOG_LINE = 4096
REASON = 2048


def _ask(call, args):
    if call == "progress.report":
        return progress.report(args["fraction"], args["message"])
    level = getattr(progress.Level, args["level"].upper(), progress.Level.INFO)
    for line in args["message"].splitlines() or [""]:
        progress.log(level, line[:LOG_LINE])


class Evaluator:
    """The exported interface `evaluator`."""

    def evaluate(self, judged):
        case = chimera_skill.Case(
            judged.goal, judged.skill, json.loads(judged.input), json.loads(judged.output), judged.confidence,
            list(judged.evidence),
        )
        try:
            verdict = chimera_skill.run_judge(skill.evaluate, case, chimera_skill.JudgeContext(_ask))
        except chimera_skill.Failure as failure:
            raise Err(_told(failure)) from None
        decision = evaluator.Decision[verdict.decision.upper()]
        return evaluator.Verdict(decision, float(verdict.confidence), str(verdict.reason)[:REASON])


def _told(failure):
    kind = types.FailureKind[failure.kind.upper().replace("-", "_")]
    told = [kind, str(failure.code)[:64], str(failure.message)[:2048], failure.retry_after_ms]
    if hasattr(types, "Limits"):
        told.append(None if failure.details is None else json.dumps(failure.details, default=str))
    return types.Failure(*told)
