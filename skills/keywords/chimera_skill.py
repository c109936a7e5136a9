"""What a skill or a judge in Python is given: a context, what it answers, failures, and a fake host for unit tests.

Nothing here reaches anything by itself. In the sandbox `chimera skill build` binds a `Context` to the host; in a unit
test `fake_context` answers from a list, written as the `answers` of a `[[selftest]]` in skill.toml. The module belongs
to your project: read it, and change it if you must.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable

#: How the host is asked: the name of a call, such as `mcp.call-tool`, and its arguments; the answer is plain data.
Ask = Callable[[str, dict], Any]


class Failure(Exception):
    """Raise it when the skill cannot do its job; the host answers with it when *it* cannot do something.

    `kind` decides what happens next: `invalid-input` (the input cannot be worked on), `transient` (try again later),
    `permanent` (this skill will never manage) or `denied` (something needed was not granted). `code` is for machines,
    in kebab-case (else it is made so); `message` is one sentence for people. A code of the host's, such as `not-granted`,
    is kept only if the host gave it in this run and its message still stands at the end; else it becomes
    `skill-not-granted`.
    `details` is data for programs, such as the field that is wrong.
    """

    KINDS = ("invalid-input", "transient", "permanent", "denied")

    def __init__(
        self, kind: str, code: str, message: str, retry_after_ms: int | None = None, details: Any = None
    ):
        if kind not in self.KINDS:
            raise ValueError(f"a failure is one of {', '.join(self.KINDS)}, not {kind!r}")
        super().__init__(f"{kind} ({code}): {message}")
        self.kind, self.code, self.message = kind, code, message
        self.retry_after_ms, self.details = retry_after_ms, details


@dataclass
class Outcome:
    """What a skill gives back: data for its output schema, how sure it is of it (0 to 1), and why, in short sentences."""

    output: Any
    confidence: float = 1.0
    evidence: list[str] = field(default_factory=list)


@dataclass
class Case:
    """A finished task, as a judge is shown it."""

    #: What the task was meant to do, in the campaign owner's words.
    goal: str = ""
    #: `namespace/name` of the skill that ran.
    skill: str = ""
    input: Any = None
    output: Any = None
    #: How sure the skill was of its output, 0 to 1, and its reasons.
    confidence: float = 0.0
    evidence: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    """What a judge thinks of a finished task, in one sentence, and how sure it is (0 to 1).

    `decision` is `approve` (good enough), `retry` (run it again), `replan` (it needs another skill or another task),
    `escalate` (a human must decide) or `reject` (end it). The host may be stricter, never laxer.
    """

    decision: str
    reason: str
    confidence: float = 1.0

    DECISIONS = ("approve", "retry", "replan", "escalate", "reject")

    def __post_init__(self):
        if self.decision not in self.DECISIONS:
            raise ValueError(f"a decision is one of {', '.join(self.DECISIONS)}, not {self.decision!r}")


class JudgeContext:
    """What a judge can reach: whoever watches."""

    def __init__(self, ask: Ask):
        self._ask = ask

    def progress(self, fraction: float, message: str = "") -> None:
        """Tells a human who watches how far along the task is, 0 to 1."""
        self._ask("progress.report", {"fraction": float(fraction), "message": message})

    def log(self, message: str, level: str = "info") -> None:
        """Writes a log line; the level is debug, info, warn or error."""
        self._ask("progress.log", {"level": level, "message": str(message)})


class Context(JudgeContext):
    """Everything a skill can reach. What `skill.toml` does not declare, or the operator did not grant, is denied.

    Ask for something only when it is needed: every answer of the host is recorded, so that a run that was interrupted
    goes on where it stopped.
    """

    def __init__(self, ask: Ask, task: dict | None = None):
        super().__init__(ask)
        task = task or {}
        #: The task's id, the same on every attempt.
        self.task_id: str = task.get("id", "task")
        #: The campaign's id, or None.
        self.campaign: str | None = task.get("campaign")
        #: What was left of the deadline when the skill started, in milliseconds.
        self.time_left_ms: int = task.get("time_left_ms", 10_000)
        #: The most that this run may use: `time_ms`, `fuel`, `memory_mb`, `output_kb`, `mcp_calls`. None before contract 0.2.
        self.limits: dict | None = task.get("limits")
        self.mcp = _Mcp(ask)
        self.memory = _Memory(ask)
        self.scratch = _Scratch(ask)
        self.trends = _Trends(ask)
        self.skills = _Skills(ask)
        self.secrets = _Secrets(ask)


class _Part:
    def __init__(self, ask: Ask):
        self._ask = ask


class _Mcp(_Part):
    """Tools of the slots that skill.toml names under `[capabilities] mcp`."""

    def list_tools(self, slot: str) -> list[dict]:
        """The tools that may be called: `name`, `description`, `input_schema`."""
        return self._ask("mcp.list-tools", {"slot": slot})

    def call(self, slot: str, tool: str, arguments: dict | None = None) -> dict:
        """Calls one tool: `text`, `structured` (or None), and `is_error` if the tool itself says that it failed."""
        return self._ask("mcp.call-tool", {"slot": slot, "tool": tool, "arguments": arguments or {}})

    def call_many(self, calls: list[tuple[str, str, dict]]) -> list[dict | Failure]:
        """Calls up to 16 tools at once; in the place of an answer stands the `Failure` if there is none."""
        wanted = [{"slot": slot, "tool": tool, "arguments": arguments} for slot, tool, arguments in calls]
        return self._ask("mcp.call-tools", {"calls": wanted})

    def read_resource(self, slot: str, uri: str) -> str:
        """Reads a resource that skill.toml names."""
        return self._ask("mcp.read-resource", {"slot": slot, "uri": uri})


class _Memory(_Part):
    """Long-term memory that all versions of this skill share."""

    def remember(self, text: str, metadata: dict | None = None) -> str:
        """Remembers a text; returns its id."""
        return self._ask("memory.remember", {"text": text, "metadata": metadata or {}})

    def recall(self, query: str, limit: int = 10) -> list[dict]:
        """What is closest in meaning, best first: `id`, `text`, `metadata`, `score`."""
        return self._ask("memory.recall", {"query": query, "limit": limit})

    def forget(self, id: str) -> None:
        """Forgets what has this id, if anything has. Needs contract 0.2."""
        self._ask("memory.forget", {"id": id})


class _Scratch(_Part):
    """Small values that are forgotten one hour after they were put."""

    def get(self, key: str) -> Any:
        """The value, or None if there is none."""
        return self._ask("scratch.get", {"key": key})

    def put(self, key: str, value: Any) -> None:
        """Keeps a value."""
        self._ask("scratch.put", {"key": key, "value": value})

    def delete(self, key: str) -> None:
        """Forgets a key."""
        self._ask("scratch.delete", {"key": key})


class _Trends(_Part):
    """What content is rising."""

    def observe(self, topic: str, weight: float = 1.0, source: str = "") -> None:
        """Notes something seen."""
        self._ask("trends.observe", {"topic": topic, "weight": float(weight), "source": source})

    def top(self, window_seconds: int, limit: int = 10) -> list[dict]:
        """The strongest topics of the last seconds: `topic`, `weight`, `count`."""
        return self._ask("trends.top", {"window_seconds": window_seconds, "limit": limit})


class _Skills(_Part):
    """Other skills that skill.toml names."""

    def call(self, name: str, input: Any, *, time_ms: int | None = None, fuel: int | None = None) -> dict:
        """Runs another skill: `output`, `confidence`, `evidence`, and what it used, `time_ms` and `fuel`.

        With `time_ms` or `fuel` it may use at most that, so that enough is left for what comes after it. Both need
        contract 0.2, and so does what it used.
        """
        args = {"name": name, "input": input}
        if time_ms is not None or fuel is not None:
            args["budget"] = {"time_ms": time_ms, "fuel": fuel}
        return self._ask("skills.call", args)


class _Secrets(_Part):
    """A secret's value never gets here: tools use it on the host's side."""

    def exists(self, name: str) -> bool:
        """Did the operator configure a secret of this name?"""
        return self._ask("secrets.exists", {"name": name})


def _frames(error: BaseException) -> list[str]:
    """Where the exception came from. The module `traceback` would look for source files, and a skill has none."""
    lines, at = ["Traceback (most recent call last):"], error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        lines.append(f"  {code.co_filename}, line {at.tb_lineno}, in {code.co_name}")
        at = at.tb_next
    return lines


def run_task(run: Callable[[Any, Context], Outcome], input_json: str, ctx: Context) -> Outcome:
    """Runs a skill on JSON text. Any other exception than a `Failure` becomes one; its traceback goes to the log."""

    def act():
        outcome = run(json.loads(input_json), ctx)
        return outcome if isinstance(outcome, Outcome) else Outcome(outcome)

    return _or_failure(act, ctx)


def run_judge(evaluate: Callable[[Case, JudgeContext], Verdict], case: Case, ctx: JudgeContext) -> Verdict:
    """Runs a judge; exceptions go the same way as a skill's."""

    def act():
        verdict = evaluate(case, ctx)
        if not isinstance(verdict, Verdict):
            raise TypeError("evaluate() must return a Verdict")
        return verdict

    return _or_failure(act, ctx)


def _or_failure(act: Callable[[], Any], ctx: JudgeContext) -> Any:
    try:
        return act()
    except Failure:
        raise
    except Exception as error:
        last_line = f"{type(error).__name__}: {error}".strip(": ")
        ctx.log("\n".join([*_frames(error), last_line]), "error")
        raise Failure("permanent", "exception", last_line) from error


class FakeHost:
    """Answers a skill's calls from a list, first to last, and keeps what it logged and reported.

    An answer is written as in skill.toml: `{"call": "scratch.get", "args": {"key": "seen"}, "answer": 3}`; `args` may be
    a part of the arguments, or be left out, and `failure` with `kind`, `code`, `message` stands instead of `answer`.
    """

    def __init__(self, answers: list[dict]):
        self.left = list(answers)
        self.logged: list[tuple[str, str]] = []
        self.reported: list[tuple[float, str]] = []

    def __call__(self, call: str, args: dict) -> Any:
        if call == "progress.log":
            return self.logged.append((args["level"], args["message"]))
        if call == "progress.report":
            return self.reported.append((args["fraction"], args["message"]))
        if call == "mcp.call-tools":
            return [self._one(wanted) for wanted in args["calls"]]
        return self._next(call, args)

    def _one(self, wanted: dict) -> dict | Failure:
        try:
            return self._next("mcp.call-tool", wanted)
        except Failure as failure:
            return failure

    def _next(self, call: str, args: dict) -> Any:
        if not self.left:
            raise AssertionError(f"the skill called {call} with {args}, and no answer is left for it")
        answer = self.left.pop(0)
        if answer["call"] != call or not _contains(args, answer.get("args", {})):
            raise AssertionError(f"the skill called {call} with {args}, but the next answer is for {answer}")
        if "failure" in answer:
            raise Failure(**answer["failure"])
        answered = answer.get("answer")
        if call == "skills.call":
            return {"confidence": 1.0, "evidence": [], "time_ms": 0, "fuel": 0, **answered}
        return answered


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and _contains(whole[key], part[key]) for key in part)
    return whole == part


def fake_context(answers: list[dict] | None = None, task: dict | None = None) -> Context:
    """A context for unit tests. The host behind it is `context.host`: what is left of the answers, logs, progress."""
    host = FakeHost(answers or [])
    context = Context(host, task)
    context.host = host
    return context


def fake_judge_context() -> JudgeContext:
    """A judge's context for unit tests; `context.host` keeps what it `logged` and `reported`."""
    host = FakeHost([])
    context = JudgeContext(host)
    context.host = host
    return context
