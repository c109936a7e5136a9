from chimera_skill import Context, Failure, Outcome


def run(input: dict, ctx: Context) -> Outcome:
    if input["text"] == "crash":
        raise RuntimeError("the well is dry")
    if input["text"] == "details":
        raise Failure("invalid-input", "wrong-field", "The text is wrong.", details={"field": "/text"})
    if input["text"] == "too-old":
        ctx.skills.call("chimera/summarize", {"texts": []}, fuel=1)
    if input["text"] == "undeclared":
        ctx.secrets.exists("token")
    ctx.progress(0.5, "asking")
    tools = ctx.mcp.list_tools("social")
    found = ctx.mcp.call("social", "search_posts", {"query": input["text"]})
    both = ctx.mcp.call_many([("social", "search_posts", {"query": "a"}), ("social", "search_posts", {"query": "b"})])
    if found["is_error"]:
        raise Failure("transient", "try-later", found["text"], 500)
    ctx.scratch.put("seen", {"count": 2})
    output = {
        "tools": [tool["name"] for tool in tools],
        "schema": tools[0]["input_schema"],
        "found": found["structured"],
        "both": [one.code if isinstance(one, Failure) else one["text"] for one in both],
        "resource": ctx.mcp.read_resource("social", "social://rules"),
        "id": ctx.memory.remember("a text", {"kind": "note"}),
        "recalled": ctx.memory.recall("text", 3),
        "kept": ctx.scratch.get("seen"),
        "nothing": ctx.scratch.get("never"),
        "top": ctx.trends.top(3600, 2),
        **since_0_2(ctx),
    }
    ctx.trends.observe("tram", 2, "posts")
    ctx.scratch.delete("seen")
    return Outcome(output, 0.9, ["asked"])


def since_0_2(ctx: Context) -> dict:
    if ctx.limits is None:
        return {"called": ctx.skills.call("chimera/summarize", {"texts": ["x"]})}
    ctx.memory.forget("memory-1")
    try:
        details = ctx.scratch.get("away")
    except Failure as failure:
        details = failure.details
    called = ctx.skills.call("chimera/summarize", {"texts": ["x"]}, fuel=5_000)
    return {"called": called, "details": details, "memory_mb": ctx.limits["memory_mb"], "took": called["fuel"]}
