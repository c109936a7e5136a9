// Reads a stream of server-sent events with `fetch`, because the browser's own reader cannot send `Authorization`. It
// knows what an event is and nothing of what it means; coming back after a broken stream is the caller's business.

/** The longest event that is read, in characters. */
const MAX_EVENT = 4 << 20;

/**
 * Takes a stream's text piece by piece, however it was cut, and calls `onEvent(type, data)` for each whole event and
 * `onRetry(milliseconds)` when the server says how soon to come back.
 */
export function eventParser(onEvent, onRetry = () => {}) {
  let rest = "";
  let endedWithReturn = false;
  let type = "";
  let data = [];
  let size = 0;

  function take(line) {
    if (line === "") {
      if (data.length) onEvent(type || "message", data.join("\n"));
      [type, data, size] = ["", [], 0];
      return;
    }
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    // A line that begins with a colon is a comment: its name is empty.
    if (name === "event") type = value;
    else if (name === "data") {
      data.push(value);
      size += value.length + 1;
    } else if (name === "retry" && /^[0-9]+$/.test(value)) onRetry(Number(value));
  }

  return (piece) => {
    if (piece === "") return;
    // A line ends with CR, LF or both; the two of one end may come in two pieces.
    const text = endedWithReturn && piece[0] === "\n" ? piece.slice(1) : piece;
    endedWithReturn = piece.endsWith("\r");
    const lines = (rest + text).split(/\r\n|\r|\n/);
    rest = lines.pop();
    lines.forEach(take);
    if (rest.length + size > MAX_EVENT) throw new Error("an event is too long");
  };
}

/**
 * Listens until the stream ends. `onOpen` is called when the server has agreed.
 * Fails when it has not, when the stream breaks, and when `signal` stops it.
 */
export async function readEvents(path, { headers, signal, onOpen, onEvent, onRetry }) {
  const response = await fetch(path, { headers: { ...headers, Accept: "text/event-stream" }, signal });
  const kind = response.headers.get("Content-Type") ?? "";
  if (!response.ok || !kind.startsWith("text/event-stream")) {
    await response.body?.cancel();
    throw new Error(`the server answered ${response.status}`);
  }
  onOpen();
  const parse = eventParser(onEvent, onRetry);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      parse(value);
    }
  } finally {
    // Whatever ended it: nothing more is read, and the connection is given back.
    reader.cancel().catch(() => {});
  }
}
