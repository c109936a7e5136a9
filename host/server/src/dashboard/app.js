// The script of the page at `/`. It shows what the API says and sends what the operator decides; it keeps nothing but the
// tab's session. Data from outside becomes text nodes and form values only: nothing is ever parsed as HTML.

import { readEvents } from "/assets/events.js";

const $ = (id) => document.getElementById(id);

/** An element with properties, attributes (`data-`, `aria-` and the like) and children. */
function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "for" || key === "colspan" || key === "role") node.setAttribute(key, value);
    else node[key] = value;
  }
  const given = children.filter((child) => child !== null && child !== undefined);
  node.append(...given.map((child) => (typeof child === "string" ? plain(child) : child)));
  return node;
}

// What cannot be seen, or turns the direction of writing: with it a text can look like another one. The same characters
// as `core::text::is_printable`.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\u{e0000}-\u{e007f}]/gu;
const escaped = (hidden) => hidden.split("").map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`).join("");

/** Text from outside as it may be shown. */
const plain = (text) => String(text).replace(HIDDEN, "\ufffd");
/** JSON in which nothing is hidden; it means the same when it is read back. */
const pretty = (value) => JSON.stringify(value, null, 2).replace(HIDDEN, escaped);
const percent = (value) => (typeof value === "number" ? value.toFixed(2) : "–");
const words = (state) => String(state).replaceAll("_", " ").replaceAll("-", " ");

function millis(value) {
  if (!value) return "–";
  return value < 1000 ? `${value} ms` : `${(value / 1000).toFixed(1)} s`;
}

function large(value) {
  if (!value) return "–";
  return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value);
}

function bytes(value) {
  if (!value) return "–";
  return value < 1048576 ? `${(value / 1024).toFixed(0)} KiB` : `${(value / 1048576).toFixed(1)} MiB`;
}

const when = (text) => (text ? new Date(text).toLocaleString() : "–");

const TONES = {
  good: ["completed", "approved", "done", "approve"],
  bad: ["failed", "rejected", "reject", "cancelled"],
  wait: ["awaiting_approval", "escalate", "retry_wait", "waiting", "suspended"],
};
const tone = (state) => Object.keys(TONES).find((name) => TONES[name].includes(state)) ?? "";

function setBadge(node, text, kind) {
  if (node.textContent !== text) node.textContent = plain(text);
  node.className = `badge ${kind}`.trim();
}

// ---------------------------------------------------------------------------------------------------------------------
// The API

class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? `The server answered ${status}.`);
    this.status = status;
    this.code = problem?.code;
  }
}

// The session is this tab's. Unlike a cookie it is read by no page of another port, and no browser sends it by itself.
const KEPT_AS = "chimera.session";
let session = null;
try {
  session = sessionStorage.getItem(KEPT_AS);
} catch {
  /* The browser keeps nothing for pages: the session ends with this page. */
}

function keepSession(token) {
  session = token;
  try {
    if (token) sessionStorage.setItem(KEPT_AS, token);
    else sessionStorage.removeItem(KEPT_AS);
  } catch {
    /* As above. */
  }
}

const credentials = (token) => (token ? { Authorization: `Bearer ${token}` } : {});

async function api(method, path, body) {
  const used = session;
  const headers = { ...credentials(used), Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refused(0, { code: "unreachable", detail: "The server cannot be reached. Is `chimera serve` running?" });
  }
  const text = await response.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    /* Not JSON: the status says enough. */
  }
  if (response.ok) return value;
  // An answer to a session of before says nothing about the present one.
  if (response.status === 401 && path !== "/login" && used === session) askForToken();
  throw new Refused(response.status, value);
}

const get = (path) => api("GET", path);
const post = (path, body) => api("POST", path, body);

function say(text, isError = false) {
  $("message").textContent = plain(text);
  $("message").className = isError ? "notice error" : "notice";
  $("message").hidden = !text;
}

/** Runs what a button does, with the button disabled meanwhile and a failure shown. */
async function act(button, work) {
  const hadFocus = document.activeElement === button;
  button.disabled = true;
  say("");
  try {
    await work();
  } catch (error) {
    if (error.status !== 401) say(error.message, true);
  } finally {
    button.disabled = false;
    if (hadFocus && document.activeElement === document.body) button.focus();
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Lists that keep their nodes, so that focus and half-written text survive an update

function sync(container, items, keyOf, create, update) {
  const old = new Map([...container.children].map((node) => [node.dataset.key, node]));
  let place = container.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    let node = old.get(key);
    old.delete(key);
    if (!node) {
      node = create(item);
      node.dataset.key = key;
    }
    update(node, item);
    if (node === place) place = place.nextSibling;
    else container.insertBefore(node, place);
  }
  for (const node of old.values()) node.remove();
}

// ---------------------------------------------------------------------------------------------------------------------
// Approvals

const KINDS = {
  effect: { name: "Effect", yes: "Approve", no: "Reject", edit: "Edit the arguments", from: (p) => p.arguments },
  verdict: { name: "Verdict", yes: "Accept", no: "Reject", again: "Run again" },
  question: { name: "Question", yes: "Answer", no: "Reject", answer: "Your answer" },
  denied: { name: "Missing grant", yes: "Granted, run again", no: "Reject" },
  divergence: { name: "Divergence", yes: "Run afresh", no: "Reject" },
  "unknown-effect": {
    name: "Did it happen?", yes: "It did not happen: send it", no: "Do not send it again",
    edit: "It did happen: record the answer", from: () => ({}), yesEdited: "Record this answer",
  },
  security: { name: "Security", yes: "Lift the suspension", no: "Keep it suspended" },
  consent: { name: "Consent", yes: "Consent", no: "Refuse" },
  stuck: { name: "Stuck", yes: "Try once more", no: "Give up" },
};

function approvalCard(approval) {
  const kind = KINDS[approval.kind] ?? { name: approval.kind, yes: "Approve", no: "Reject" };
  const id = approval.id;
  const note = el("input", { id: `note-${id}`, maxLength: 1000 });
  const schema = kind.answer ? approval.payload?.schema : undefined;
  const choices = Array.isArray(schema?.enum) ? schema.enum : null;
  const isText = !choices && schema?.type === "string";
  const editor = choices
    ? el("select", { id: `edit-${id}` }, ...choices.map((choice, at) => el("option", { value: String(at) }, typeof choice === "string" ? choice : pretty(choice))))
    : el("textarea", { id: `edit-${id}`, className: "code", rows: 8, spellcheck: false });
  const problem = el("p", { className: "field-error", role: "alert" });
  const editing = el("div", {}, el("label", { for: editor.id }, kind.answer ?? kind.edit ?? "Answer"), editor);
  editing.hidden = !kind.answer;

  if (kind.answer && !choices) {
    editor.rows = isText ? 3 : 6;
    editor.value = isText ? schema.default ?? "" : pretty(schema?.default ?? null);
  }

  const yes = el("button", { type: "button", className: "primary" }, kind.yes);
  const no = el("button", { type: "button", className: "danger" }, kind.no);
  const buttons = [yes, no];
  if (kind.again) buttons.push(el("button", { type: "button" }, kind.again));

  const edited = () => {
    if (editing.hidden) return undefined;
    if (choices) return choices[Number(editor.value)];
    if (isText) return editor.value;
    return JSON.parse(editor.value);
  };
  const decide = (button, decision) => act(button, async () => {
    problem.textContent = "";
    const body = { decision };
    if (note.value.trim()) body.note = note.value.trim();
    if (decision === "approve") {
      let value;
      try {
        value = edited();
      } catch (error) {
        problem.textContent = `This is not JSON: ${error.message}`;
        editor.focus();
        return;
      }
      if (value !== undefined) body.edited = value;
    }
    await post(`/api/v1/approvals/${id}/decide`, body);
    say(`Decided: ${approval.title}`);
    $("approvals-title").scrollIntoView({ block: "nearest" });
    refreshSoon();
  });
  yes.addEventListener("click", () => decide(yes, "approve"));
  no.addEventListener("click", () => decide(no, "reject"));
  if (kind.again) buttons[2].addEventListener("click", () => decide(buttons[2], "retry"));

  if (kind.edit) {
    const toggle = el("button", { type: "button", "aria-expanded": "false", "aria-controls": editor.id }, kind.edit);
    toggle.addEventListener("click", () => {
      editing.hidden = !editing.hidden;
      toggle.setAttribute("aria-expanded", String(!editing.hidden));
      toggle.textContent = editing.hidden ? kind.edit : "Discard the edit";
      yes.textContent = editing.hidden ? kind.yes : kind.yesEdited ?? "Approve edited";
      if (!editing.hidden) {
        editor.value = pretty(kind.from(approval.payload ?? {}) ?? {});
        editor.focus();
      }
    });
    buttons.push(toggle);
  }

  const heading = el("h3", { id: `title-${id}` }, approval.title);
  const text = approval.payload?.text;
  return el(
    "article", { className: "approval", "aria-labelledby": heading.id },
    el("div", { className: "row" }, heading, el("span", { className: "badge wait" }, kind.name)),
    el("p", {}, approval.reason),
    typeof text === "string" ? el("p", {}, text) : null,
    el("p", { className: "hint deadline" }),
    choices || isText ? null : el("pre", { tabIndex: 0, "aria-label": "Exactly this" }, pretty(schema ?? approval.payload)),
    editing, problem,
    el("label", { for: note.id }, "Note ", el("small", {}, "(for the log, optional)")), note,
    el("div", { className: "row" }, ...buttons),
  );
}

function updateApproval(node, approval) {
  const left = Math.round((new Date(approval.deadline) - Date.now()) / 60000);
  const late = approval.escalations > 0 ? `, escalated ${approval.escalations}×` : "";
  const text = `asked ${when(approval.created_at)}, ${left > 0 ? `${left} min left` : "past its deadline"}${late}`;
  const line = node.querySelector(".deadline");
  if (line.textContent !== text) line.textContent = text;
}

async function loadApprovals() {
  const { approvals } = await get("/api/v1/approvals?state=open");
  sync($("approvals"), approvals, (approval) => approval.id, approvalCard, updateApproval);
  const count = approvals.length ? `(${approvals.length})` : "";
  if ($("approvals-count").textContent !== count) $("approvals-count").textContent = count;
  $("approvals-empty").hidden = approvals.length > 0;
  document.title = approvals.length ? `(${approvals.length}) Chimera` : "Chimera";
}

// ---------------------------------------------------------------------------------------------------------------------
// Campaigns

let chosen = new URLSearchParams(location.hash.slice(1)).get("campaign");
let shown = null;
const progress = new Map();

function choose(id) {
  chosen = id;
  history.replaceState(null, "", id ? `#campaign=${id}` : location.pathname);
  refreshSoon(0);
}

function campaignItem() {
  const button = el("button", { type: "button" }, el("span"), el("span", { className: "badge" }));
  button.addEventListener("click", () => choose(button.parentNode.dataset.key));
  return el("li", {}, button);
}

function updateCampaignItem(node, campaign) {
  const [button] = node.children;
  const [title, state] = button.children;
  title.textContent = plain(campaign.title || campaign.goal || campaign.id);
  setBadge(state, words(campaign.state), tone(campaign.state));
  button.setAttribute("aria-current", String(campaign.id === chosen));
}

async function loadCampaigns() {
  const { campaigns } = await get("/api/v1/campaigns");
  if (!campaigns.some((campaign) => campaign.id === chosen)) chosen = campaigns[0]?.id ?? null;
  sync($("campaigns"), campaigns, (campaign) => campaign.id, campaignItem, updateCampaignItem);
  $("campaigns-empty").hidden = campaigns.length > 0;
}

async function loadCampaign() {
  $("campaign-empty").hidden = Boolean(chosen);
  $("campaign-body").hidden = !chosen;
  if (!chosen) return;
  const asked = chosen;
  const view = await get(`/api/v1/campaigns/${asked}`);
  if (asked === chosen) showCampaign(view);
}

function showCampaign(view) {
  shown = view;
  const { campaign, steps, tasks } = view;
  $("campaign-title").textContent = plain(campaign.title || "Campaign");
  setBadge($("campaign-state"), words(campaign.state), tone(campaign.state));
  $("campaign-goal").textContent = plain(campaign.goal);
  const facts = [`started ${when(campaign.created_at)}`];
  if (campaign.plan_ms !== null) facts.push(`planned in ${millis(campaign.plan_ms)}`);
  if (campaign.finished_at) facts.push(`ended ${when(campaign.finished_at)}`);
  $("campaign-facts").textContent = `${facts.join(" · ")} · ${campaign.id}`;
  $("campaign-failure").hidden = !campaign.failure;
  $("campaign-failure").textContent = campaign.failure ? plain(`${campaign.failure.message} [${campaign.failure.code}]`) : "";
  $("cancel").hidden = !["planning", "running"].includes(campaign.state);
  $("steps-empty").hidden = steps.length > 0;
  const byId = new Map(tasks.map((task) => [task.id, task]));
  const rows = steps.flatMap((step) => {
    const task = byId.get(step.task);
    const row = { key: step.id, step, task };
    return open.has(step.id) ? [row, { key: `${step.id}-more`, step, task, isMore: true }] : [row];
  });
  sync($("steps"), rows, (row) => row.key, (row) => (row.isMore ? moreRow(row) : stepRow(row)),
    (node, row) => (row.isMore ? updateMore(node, row) : updateStep(node, row)));
}

// ---------------------------------------------------------------------------------------------------------------------
// Steps

const open = new Set();

function stepRow({ step }) {
  const toggle = el("button", { type: "button", className: "toggle", "aria-expanded": "false" }, step.title || step.key);
  toggle.addEventListener("click", () => {
    if (!open.delete(step.id)) open.add(step.id);
    if (shown) showCampaign(shown);
  });
  const cell = (name = "") => el("td", { className: name });
  return el("tr", {}, el("td", {}, toggle), el("td", {}, el("span")), cell(), cell("number"), cell("number"), cell(),
    cell("number"), cell("number"), cell("number"));
}

function updateStep(node, { step, task }) {
  const cells = node.children;
  cells[0].firstChild.setAttribute("aria-expanded", String(open.has(step.id)));
  const state = step.state === "active" && task ? task.state : step.state;
  setBadge(cells[1].firstChild, words(state), tone(state));
  showProgress(cells[1], state === "running" ? progress.get(task?.id) : undefined);
  cells[2].textContent = `${step.skill.name} ${step.skill.version}`;
  cells[3].textContent = task ? task.attempt : "–";
  cells[4].textContent = percent(task?.outcome?.confidence);
  cells[5].textContent = task?.verdict ? words(task.verdict.decision) : "–";
  cells[6].textContent = millis(task?.usage.wall_ms);
  cells[7].textContent = large(task?.usage.fuel);
  cells[8].textContent = bytes(task?.usage.peak_memory_bytes);
}

function showProgress(cell, news) {
  let bar = cell.querySelector("progress");
  if (!news) {
    bar?.nextSibling?.remove();
    bar?.remove();
    return;
  }
  if (!bar) {
    bar = el("progress", { max: 1, "aria-label": "Progress" });
    cell.append(bar, el("div", { className: "hint" }));
  }
  bar.value = Math.min(1, Math.max(0, news.fraction));
  bar.nextSibling.textContent = plain(news.message);
}

function moreRow({ step }) {
  const toggle = [...$("steps").children].find((row) => row.dataset.key === step.id)?.querySelector(".toggle");
  const id = `more-${step.id}`;
  toggle?.setAttribute("aria-controls", id);
  return el("tr", { className: "more", id }, el("td", { colspan: "9" }, el("dl")));
}

function updateMore(node, { step, task }) {
  const revision = `${step.state} ${task?.id} ${task?.rev}`;
  if (node.dataset.revision === revision) return;
  node.dataset.revision = revision;
  const list = node.querySelector("dl");
  list.replaceChildren();
  const add = (name, ...content) => list.append(el("dt", {}, name), el("dd", {}, ...content));
  const code = (value) => el("pre", { tabIndex: 0 }, pretty(value));
  add("Why this skill", step.reason || "–");
  if (task?.failure) add("Failure", `${task.failure.message} [${task.failure.code}]`);
  if (task?.verdict) add("Verdict", task.verdict.reason);
  for (const check of task?.verdict?.checks ?? []) add(`Check: ${check.name}`, `${check.result}: ${check.detail}`);
  for (const reason of task?.outcome?.evidence ?? []) add("Evidence", reason);
  if (task?.outcome) add("Output", code(task.outcome.output));
  if (!task) {
    add("Input", code(step.input));
    return;
  }
  add("Task", el("code", {}, task.id));
  get(`/api/v1/tasks/${task.id}`).then((found) => {
    if (node.dataset.revision !== revision) return;
    if (found.spec) add("Input", code(found.spec.input));
    for (const effect of found.effects) add(`Effect: ${effect.tool}`, `${words(effect.state)} `, code(effect.arguments));
    add("Journal", `${found.journal.count} host answers`);
  }).catch((error) => add("More", error.message));
}

// ---------------------------------------------------------------------------------------------------------------------
// Staying up to date

let timer = null;
let isLoading = false;
let isStale = false;

/** Reads everything again, soon; many calls in a row make one reading. */
function refreshSoon(delay = 150) {
  isStale = true;
  if (timer === null && !isLoading) timer = setTimeout(refresh, delay);
}

async function refresh() {
  timer = null;
  isStale = false;
  isLoading = true;
  try {
    await Promise.all([loadApprovals(), loadCampaigns().then(loadCampaign)]);
  } catch (error) {
    if (error.status !== 401) say(error.message, true);
  } finally {
    isLoading = false;
    if (isStale && !$("board").hidden) refreshSoon();
  }
}

const LONGEST_PAUSE = 30000;
let stream = null;
let firstPause = 1000;
let pause = firstPause;
let comeBack = null;

/** Begins anew in a while, and later each time. */
function startLater() {
  clearTimeout(comeBack);
  comeBack = setTimeout(start, pause);
  pause = Math.min(pause * 2, LONGEST_PAUSE);
}

async function listen() {
  stream?.abort();
  const mine = new AbortController();
  stream = mine;
  const onOpen = () => {
    pause = firstPause;
    setBadge($("live"), "live", "good");
    say("");
    refreshSoon(0);
  };
  const onRetry = (millis) => {
    firstPause = Math.min(Math.max(millis, 100), LONGEST_PAUSE);
    pause = firstPause;
  };
  try {
    await readEvents("/api/v1/events", { headers: credentials(session), signal: mine.signal, onOpen, onEvent, onRetry });
  } catch {
    /* Whoever begins anew asks first, and shows why it cannot be. */
  }
  if (stream !== mine) return;
  setBadge($("live"), "reconnecting", "wait");
  startLater();
}

function onEvent(type, data) {
  if (!session) return;
  if (type === "audit") {
    const { task } = JSON.parse(data);
    if (task) progress.delete(task);
    setBadge($("audit"), "audit: not checked", "");
    refreshSoon();
  } else if (type === "progress") {
    const news = JSON.parse(data);
    progress.set(news.task, news);
    if (progress.size > 1000) progress.delete(progress.keys().next().value);
    if (shown && news.campaign === shown.campaign.id) showCampaign(shown);
  } else if (type === "missed") {
    refreshSoon();
  }
}

function askForToken() {
  keepSession(null);
  stream?.abort();
  stream = null;
  clearTimeout(comeBack);
  setBadge($("live"), "logged out", "");
  $("board").hidden = true;
  $("tools").hidden = true;
  if ($("login").hidden) {
    $("login").hidden = false;
    $("token").focus();
  }
}

async function start() {
  clearTimeout(comeBack);
  if (!session) {
    askForToken();
    return;
  }
  const used = session;
  try {
    await get("/api/v1/session");
  } catch (error) {
    if (error.status !== 401) {
      setBadge($("live"), "not connected", "bad");
      say(error.message, true);
      startLater();
    }
    return;
  }
  if (used !== session) return;
  $("login").hidden = true;
  $("board").hidden = false;
  $("tools").hidden = false;
  listen();
}

/** Takes the ticket of a one-time link out of the address, and a session for it; tells whether there was one. */
async function takeTicket() {
  const ticket = new URLSearchParams(location.hash.slice(1)).get("ticket");
  if (!ticket) return false;
  history.replaceState(null, "", location.pathname);
  const before = session;
  try {
    keepSession((await post("/login", { ticket })).session);
    // This tab is done with the session of before, so it ends.
    if (before) fetch("/logout", { method: "POST", headers: credentials(before) }).catch(() => {});
  } catch (error) {
    say(error.message, true);
  }
  return true;
}

// ---------------------------------------------------------------------------------------------------------------------
// Forms and buttons

const onSubmit = (id, work) => $(id).addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.submitter ?? $(id).querySelector("button"), work);
});

onSubmit("login-form", async () => {
  const opened = await post("/login", { token: $("token").value.trim() }).catch((error) => {
    $("token").select();
    throw new Refused(error.status === 401 ? 400 : error.status, { detail: error.message });
  });
  keepSession(opened.session);
  $("token").value = "";
  await start();
});

onSubmit("new-form", async () => {
  $("new-error").textContent = "";
  let inputs;
  try {
    inputs = JSON.parse($("new-inputs").value.trim() || "{}");
    if (inputs === null || typeof inputs !== "object" || Array.isArray(inputs)) throw new Error("expected { … }");
  } catch (error) {
    $("new-error").textContent = `The inputs are not a JSON object: ${error.message}`;
    $("new-inputs").focus();
    return;
  }
  const body = { goal: $("new-goal").value, inputs };
  if ($("new-name").value.trim()) body.title = $("new-name").value.trim();
  try {
    const made = await post("/api/v1/campaigns", body);
    $("new-form").reset();
    choose(made.campaign.id);
  } catch (error) {
    $("new-error").textContent = plain(error.message);
  }
});

onSubmit("search-form", async () => {
  const query = $("search").value.trim();
  const { hits } = await get(`/api/v1/search?q=${encodeURIComponent(query)}&limit=10`);
  $("search-status").textContent = hits.length ? `${hits.length} found` : "No skill fits. Install one with `chimera skill install`.";
  $("hits").replaceChildren(...hits.map((hit) => el(
    "li", {}, el("strong", {}, `${hit.skill.name} ${hit.skill.version}`), el("div", {}, hit.summary),
    el("div", { className: "hint" }, `score ${percent(hit.score)}${hit.matched.length ? ` · ${hit.matched.join(", ")}` : ""}`),
  )));
});

$("verify").addEventListener("click", () => act($("verify"), async () => {
  const { valid, chains } = await get("/api/v1/audit/verify");
  const events = chains.reduce((sum, chain) => sum + chain.events, 0);
  setBadge($("audit"), valid ? `audit: valid (${events} events)` : "audit: BROKEN", valid ? "good" : "bad");
  const broken = chains.filter((chain) => chain.problem);
  if (broken.length) say(broken.map((chain) => `${chain.chain}: ${chain.problem}`).join("\n"), true);
}));

$("cancel").addEventListener("click", () => act($("cancel"), async () => {
  if (!confirm("Cancel this campaign? What was not begun will not be done.")) return;
  await post(`/api/v1/campaigns/${chosen}/cancel`, {});
  refreshSoon(0);
}));

$("logout").addEventListener("click", () => act($("logout"), async () => {
  try {
    await post("/logout");
  } finally {
    // Even when the server cannot be told: this tab forgets its session.
    askForToken();
  }
}));

setInterval(() => {
  if (!$("board").hidden && !document.hidden && $("approvals").children.length) refreshSoon();
}, 30000);

// A link that is opened in this tab changes the address only.
addEventListener("hashchange", async () => {
  if (await takeTicket()) start();
});
takeTicket().then(start);
