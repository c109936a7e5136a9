"""Between the contract and a skill in Python: what the component exports, and the context's way to the host.

Written into the build folder by `chimera skill build`; the author's module is `skill`, the helper `chimera_skill`, which
may be of an older template. It fits every version of the contract that is served: what a version has is looked up.
"""

import importlib
import json

import chimera_skill
import skill
from componentize_py_types import Err, Ok
from wit_world.imports import progress, types

LOG_LINE = 4096


def _imported(name):
    # The world holds only what skill.toml declares.
    try:
        return importlib.import_module("wit_world.imports." + name)
    except ModuleNotFoundError:
        return None


HOST = {name: _imported(name) for name in ("mcp", "memory", "scratch", "trends", "skills", "secrets")}


def _failure(told):
    kind = told.kind.name.lower().replace("_", "-")
    failure = chimera_skill.Failure(kind, told.code, told.message, told.retry_after_ms)
    failure.details = _parsed(getattr(told, "details", None))
    return failure


def _call(wanted):
    return HOST["mcp"].Call(wanted["slot"], wanted["tool"], json.dumps(wanted["arguments"]))


def _answer(told):
    structured = None if told.structured is None else json.loads(told.structured)
    return {"text": told.text, "structured": structured, "is_error": told.is_error}


def _each(told):
    return [_answer(one.value) if isinstance(one, Ok) else _failure(one.value) for one in told]


def _outcome(told):
    return {"output": json.loads(told.output), "confidence": told.confidence, "evidence": told.evidence}


def _called(skills, args):
    name, text, given = args["name"], json.dumps(args["input"]), args.get("budget")
    if not hasattr(skills, "Budget"):
        if given is not None:
            raise _too_old("A budget for a called skill")
        return _outcome(skills.call(name, text))
    budget = None if given is None else skills.Budget(given["time_ms"], given["fuel"])
    told = skills.call(name, text, budget)
    return {**_outcome(told.outcome), "time_ms": told.time_ms, "fuel": told.fuel}


def _forget(memory, args):
    if not hasattr(memory, "forget"):
        raise _too_old("memory.forget")
    memory.forget(args["id"])


def _too_old(what):
    message = f'{what} needs contract 0.2; write contract = "0.2" in skill.toml and build again.'
    return chimera_skill.Failure("permanent", "contract-too-old", message)


def _item(told):
    return {"id": told.id, "text": told.text, "metadata": json.loads(told.metadata), "score": told.score}


def _log(args):
    level = getattr(progress.Level, args["level"].upper(), progress.Level.INFO)
    for line in args["message"].splitlines() or [""]:
        progress.log(level, line[:LOG_LINE])


CALLS = {
    "progress.report": lambda _, a: progress.report(a["fraction"], a["message"]),
    "progress.log": lambda _, a: _log(a),
    "mcp.list-tools": lambda mcp, a: [
        {"name": t.name, "description": t.description, "input_schema": json.loads(t.input_schema)}
        for t in mcp.list_tools(a["slot"])
    ],
    "mcp.call-tool": lambda mcp, a: _answer(mcp.call_tool(_call(a))),
    "mcp.call-tools": lambda mcp, a: _each(mcp.call_tools([_call(wanted) for wanted in a["calls"]])),
    "mcp.read-resource": lambda mcp, a: mcp.read_resource(a["slot"], a["uri"]),
    "memory.remember": lambda memory, a: memory.remember(a["text"], json.dumps(a["metadata"])),
    "memory.recall": lambda memory, a: [_item(item) for item in memory.recall(a["query"], a["limit"])],
    "memory.forget": _forget,
    "scratch.get": lambda scratch, a: _parsed(scratch.get(a["key"])),
    "scratch.put": lambda scratch, a: scratch.put(a["key"], json.dumps(a["value"])),
    "scratch.delete": lambda scratch, a: scratch.delete(a["key"]),
    "trends.observe": lambda trends, a: trends.observe(trends.Observation(a["topic"], a["weight"], a["source"])),
    "trends.top": lambda trends, a: [
        {"topic": t.topic, "weight": t.weight, "count": t.count} for t in trends.top(a["window_seconds"], a["limit"])
    ],
    "skills.call": _called,
    "secrets.exists": lambda secrets, a: secrets.exists(a["name"]),
}


def _parsed(text):
    return None if text is None else json.loads(text)


def _ask(call, args):
    interface = call.split(".")[0]
    if interface != "progress" and HOST[interface] is None:
        message = f"{call} needs `{interface}` under [capabilities] in skill.toml, which does not declare it."
        raise chimera_skill.Failure("permanent", "not-declared", message)
    try:
        return CALLS[call](HOST.get(interface), args)
    except Err as told:
        raise _failure(told.value) from None


class Runner:
    """The exported interface `runner`."""

    def run(self, task):
        told = {"id": task.id, "campaign": task.campaign, "time_left_ms": task.time_left_ms}
        if hasattr(task, "limits"):
            told["limits"] = dict(vars(task.limits))
        ctx = chimera_skill.Context(_ask, told)
        try:
            outcome = chimera_skill.run_task(skill.run, task.input, ctx)
            output = json.dumps(outcome.output, ensure_ascii=False, allow_nan=False)
        except chimera_skill.Failure as failure:
            raise Err(_told(failure)) from None
        except (TypeError, ValueError) as error:
            message = f"The skill's output is not JSON: {error}"
            raise Err(_told(chimera_skill.Failure("permanent", "exception", message))) from None
        return types.Outcome(output, float(outcome.confidence), [str(reason) for reason in outcome.evidence])


def _told(failure):
    kind = types.FailureKind[failure.kind.upper().replace("-", "_")]
    told = [kind, str(failure.code)[:64], str(failure.message)[:2048], failure.retry_after_ms]
    if hasattr(types, "Limits"):
        details = getattr(failure, "details", None)
        told.append(None if details is None else json.dumps(details, default=str))
    return types.Failure(*told)
