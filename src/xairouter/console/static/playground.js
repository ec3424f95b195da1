// The playground: talks to the data plane with a key of its own, which this page holds in its memory
// and nowhere else. What is sent and what comes back is shown as it is.
"use strict";

const page = document.getElementById("playground");
const field = (name) => page.elements[name];
const talk = document.getElementById("talk");
const shown = (id, text) => (document.getElementById(id).textContent = text);
let issued = null;
let running = null;
let past = [];

const DIALECTS = {
  openai_chat: {
    path: () => "/v1/chat/completions",
    headers: (key) => ({ authorization: `Bearer ${key}` }),
    body: (turns, model, most, streams) => ({ model, messages: turns, ...(most && { max_completion_tokens: most }), stream: streams }),
    text: (part) => part.choices?.[0]?.delta?.content ?? part.choices?.[0]?.message?.content ?? "",
  },
  openai_responses: {
    path: () => "/v1/responses",
    headers: (key) => ({ authorization: `Bearer ${key}` }),
    body: (turns, model, most, streams) => ({ model, input: turns, ...(most && { max_output_tokens: most }), stream: streams }),
    text: (part) => part.type === "response.output_text.delta" ? part.delta
      : (part.output ?? []).flatMap((item) => item.content ?? []).map((one) => one.text ?? "").join(""),
  },
  anthropic_messages: {
    path: () => "/v1/messages",
    headers: (key) => ({ "x-api-key": key, "anthropic-version": "2023-06-01" }),
    body: (turns, model, most, streams) => ({ model, max_tokens: most || 1024, messages: turns, stream: streams }),
    text: (part) => part.type === "content_block_delta" ? part.delta.text ?? ""
      : part.type === "message" ? part.content.map((one) => one.text ?? "").join("") : "",
  },
  gemini_generate: {
    path: (model, streams) => `/v1beta/models/${encodeURIComponent(model)}:${streams ? "streamGenerateContent?alt=sse" : "generateContent"}`,
    headers: (key) => ({ "x-goog-api-key": key }),
    body: (turns, _, most) => ({
      contents: turns.map((turn) => ({ role: turn.role === "user" ? "user" : "model", parts: [{ text: turn.content }] })),
      ...(most && { generationConfig: { maxOutputTokens: most } }),
    }),
    text: (part) => (part.candidates?.[0]?.content?.parts ?? []).map((one) => one.text ?? "").join(""),
  },
};

async function key() {
  if (!issued || issued.until < Date.now() + 60_000) {
    const answer = await fetch("/console/playground/key", { method: "POST", redirect: "error" });
    if (!answer.ok) throw new Error(answer.status === 401 ? document.body.dataset.ended : await answer.text());
    const made = await answer.json();
    issued = { key: made.api_key, until: Date.parse(made.expires_at) };
  }
  return issued.key;
}

function article(title, mine) {
  const made = document.createElement("article");
  if (mine) made.className = "mine";
  const head = document.createElement("h2");
  head.textContent = title;
  const text = document.createElement("div");
  made.append(head, text);
  talk.append(made);
  return text;
}

function dialects() {
  const chosen = field("model").selectedOptions[0];
  const speaks = chosen ? chosen.dataset.dialects.split(" ") : Object.keys(DIALECTS);
  for (const option of field("dialect").options) option.disabled = !speaks.includes(option.value);
  if (field("dialect").selectedOptions[0]?.disabled)
    field("dialect").value = [...field("dialect").options].find((one) => !one.disabled)?.value ?? "openai_chat";
}

function request() {
  const dialect = DIALECTS[field("dialect").value];
  const model = field("named").value.trim() || field("model").value;
  const streams = field("stream").checked;
  const turns = [...past, { role: "user", content: field("text").value }];
  return { dialect, model, streams, turns, path: dialect.path(model, streams), body: dialect.body(turns, model, Number(field("most").value) || 0, streams) };
}

function preview() {
  const made = request();
  const headers = Object.entries({ ...made.dialect.headers("$XAI_KEY"), "content-type": "application/json" });
  const text = JSON.stringify(made.body, null, 2);
  shown("raw-request", `POST ${made.path}\n${headers.map(([name, value]) => `${name}: ${value}`).join("\n")}\n\n${text}`);
  const quoted = JSON.stringify(made.body).replaceAll("'", "'\\''");
  shown("snippet", `curl ${page.dataset.calls || location.origin}${made.path} \\\n${headers.map(([name, value]) => `  -H "${name}: ${value}" \\`).join("\n")}\n  -d '${quoted}'`);
}

async function send(event) {
  event.preventDefault();
  if (running) return;
  const made = request();
  running = new AbortController();
  field("stop").hidden = false;
  field("send").disabled = true;
  article(page.dataset.you, true).textContent = field("text").value;
  const place = article(made.model, false);
  let answered = "";
  try {
    const reply = await fetch(page.dataset.calls + made.path, {
      method: "POST",
      headers: { ...made.dialect.headers(await key()), "content-type": "application/json" },
      body: JSON.stringify(made.body),
      credentials: "omit",
      signal: running.signal,
    });
    let raw = `HTTP ${reply.status}\n${[...reply.headers].map(([name, value]) => `${name}: ${value}`).join("\n")}\n\n`;
    shown("raw-reply", raw);
    const call = reply.headers.get("x-xairouter-call-id");
    const link = document.getElementById("explain-call");
    link.href = `/console/calls/${encodeURIComponent(call)}`;
    link.hidden = false;
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      raw += part.value;
      waiting += part.value;
      if (raw.length < 200_000) shown("raw-reply", raw);
      if (!made.streams || !reply.ok) continue;
      const lines = waiting.split("\n");
      waiting = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        try {
          answered += made.dialect.text(JSON.parse(line.slice(5)));
        } catch { /* not every event is an object */ }
      }
      place.textContent = answered;
    }
    if (!reply.ok) place.textContent = said(waiting);
    else if (!made.streams) place.textContent = answered = made.dialect.text(JSON.parse(waiting));
    if (reply.ok) past = [...made.turns, { role: "assistant", content: answered }];
  } catch (error) {
    place.textContent += `\n${running.signal.aborted ? page.dataset.stopped : error.message}`;
  } finally {
    running = null;
    field("stop").hidden = true;
    field("send").disabled = false;
    preview();
  }
}

function said(text) {
  try {
    const problem = JSON.parse(text);
    return problem.error?.message ?? text;
  } catch {
    return text;
  }
}

page.addEventListener("submit", send);
page.addEventListener("input", () => { dialects(); preview(); });
field("stop").addEventListener("click", () => running?.abort());
field("fresh").addEventListener("click", () => {
  past = [];
  talk.replaceChildren();
  preview();
});
page.hidden = false;
dialects();
preview();
