// The Panel's figures, polled. It never shows 100 % before the server says that the task succeeded.
const POLL_MS = 2000;
const MOST_MS = 30000;
const REDIS_MS = 10000;
const SPOKEN_MS = 10000;
const KEPT_MS = 300000;

const panel = document.getElementById("panel");
const words = JSON.parse(document.getElementById("panel-words").textContent);
const list = document.getElementById("panel-tasks");
const notice = document.getElementById("panel-notice");
const live = document.getElementById("panel-live");
const buttons = [...panel.querySelectorAll("[data-start]")];
const known = new Map();
let wait = POLL_MS;
let timer = 0;
let polling = false;
let redisAt = 0;
let spokenAt = 0;
let over = false;

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

function say(text, important = false) {
  const now = Date.now();
  if (!important && now - spokenAt < SPOKEN_MS) return;
  spokenAt = now;
  live.textContent = text;
}

function warn(text) {
  notice.hidden = !text;
  notice.textContent = text || "";
  panel.classList.toggle("sb-stale", Boolean(text));
}

function endSession() {
  over = true;
  clearTimeout(timer);
  for (const button of buttons) button.disabled = true;
  warn("");
  notice.hidden = false;
  const target = `${panel.dataset.loginUrl}?next=${encodeURIComponent(window.location.href)}`;
  notice.replaceChildren(element("a", { href: target }, words.session_ended));
}

async function call(url, options = {}) {
  const response = await fetch(url, { redirect: "manual", headers: { Accept: "application/json", ...options.headers }, ...options });
  // A signed-out request is led to the sign-in page; our own calls say 401.
  if (response.type === "opaqueredirect" || response.status === 401) {
    endSession();
    return null;
  }
  const body = await response.json();
  if (!response.ok) throw new Error(body.message || body.detail || response.statusText);
  return body;
}

function post(url) {
  const token = Cookies.get("starlette_admin_csrftoken") || "";
  return call(url, { method: "POST", headers: { Accept: "application/json", "X-CSRFToken": token } });
}

function makeTask(task) {
  const bar = element("div", { class: "progress-bar" });
  const holder = element("div", { class: "progress", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, bar);
  const parts = {
    badge: element("span", { class: "badge" }),
    text: element("span", { class: "text-secondary" }),
    detail: element("div", { class: "small" }),
    cancel: element("button", { type: "button", class: "btn btn-sm" }, words.cancel),
    bar,
    holder,
  };
  holder.setAttribute("aria-label", task.title);
  const link = element("a", { href: panel.dataset.detailUrl + encodeURIComponent(task.id) }, task.title);
  const head = element("div", { class: "d-flex flex-wrap align-items-center gap-2 mb-1" }, element("strong", {}, link), parts.badge, parts.text, element("span", { class: "ms-auto" }, parts.cancel));
  parts.item = element("li", { class: "mb-3", "data-task": task.id }, head, holder, parts.detail);
  parts.cancel.addEventListener("click", async () => {
    parts.cancel.disabled = true;
    try {
      const answer = await post(panel.dataset.cancelUrl + encodeURIComponent(task.id));
      if (answer) say(`${task.title}: ${answer.message}`, true);
    } catch (error) {
      warn(error.message);
    }
    soon();
  });
  list.append(parts.item);
  return { parts, state: null, endedAt: 0 };
}

function showTask(task) {
  let entry = known.get(task.id);
  if (!entry) {
    entry = makeTask(task);
    known.set(task.id, entry);
  }
  const { parts } = entry;
  parts.badge.className = `badge bg-${task.tone}-lt`;
  parts.badge.textContent = task.word;
  const counted = task.total ? task.counted : "";
  parts.text.textContent = [counted, task.took, `${words.by} ${task.by}`].filter(Boolean).join(" · ");
  parts.detail.textContent = task.error || task.why || "";
  parts.cancel.hidden = !task.can_cancel;
  parts.cancel.disabled = false;
  const value = task.state === "SUCCESS" ? 100 : Math.min(99, task.percent ?? 0);
  parts.bar.style.width = `${value}%`;
  parts.bar.className = `progress-bar bg-${task.tone}`;
  const busy = !task.ended && task.percent == null && task.state === "STARTED";
  parts.bar.classList.toggle("progress-bar-indeterminate", busy);
  if (task.percent == null && task.state !== "SUCCESS") parts.holder.removeAttribute("aria-valuenow");
  else parts.holder.setAttribute("aria-valuenow", String(value));
  parts.holder.setAttribute("aria-valuetext", `${task.word} ${counted || (task.percent == null ? "" : `${value} %`)}`.trim());
  if (task.ended && entry.state && !entry.endedAt) say(`${task.title}: ${task.word}`, true);
  else if (!task.ended && entry.state) say(`${task.title}: ${value} %`);
  entry.state = task.state;
  if (task.ended && !entry.endedAt) entry.endedAt = Date.now();
}

function when(moment) {
  return element("time", { datetime: moment.iso }, `${moment.exact} (${moment.ago})`);
}

function showTasks(state) {
  const named = new Set(state.tasks.map((task) => task.id));
  for (const task of state.tasks) showTask(task);
  for (const [id, entry] of known) {
    if (!named.has(id) || (entry.endedAt && Date.now() - entry.endedAt > KEPT_MS)) {
      entry.parts.item.remove();
      known.delete(id);
    }
  }
  const empty = document.getElementById("panel-empty");
  empty.hidden = known.size > 0;
  const { summary } = state;
  empty.replaceChildren(words.no_tasks, ...(summary.last_ended ? [` ${words.ended} `, when(summary.last_ended), "."] : []));
  const parts = [];
  if (summary.built) parts.push([words.index.replace("{count}", summary.documents), " ", when(summary.built)]);
  else parts.push([words.index_none]);
  parts.push([summary.failures ? words.failures.replace("{count}", summary.failures) : words.no_failures]);
  if (summary.any_dead) parts.push([element("a", { href: panel.dataset.deadUrl }, words.dead.replace("{count}", summary.dead))]);
  if (state.more) parts.push([words.more.replace("{count}", state.more)]);
  document.getElementById("panel-summary").replaceChildren(...parts.flatMap((part, at) => (at ? [" · ", ...part] : part)));
}

const heads = [...document.querySelectorAll("#panel-queues-table th[scope=col]")].map((head) => head.textContent.trim());

function showQueues(queues) {
  const rows = queues.map((queue) => {
    const waiting = queue.without > 0 ? `${queue.waiting} (${words.without.replace("{count}", queue.without)})` : queue.waiting;
    const workers = queue.workers == null ? words.unknown : queue.workers || words.no_worker;
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, queue.name),
      ...[waiting, queue.running, queue.oldest, workers].map((value, at) => element("td", { "data-label": heads[at + 1] }, String(value))),
    );
  });
  document.getElementById("panel-queues").replaceChildren(...rows);
}

// Of Spanish alone the numbers would be those of Spain.
const region = document.documentElement.lang === "es" ? "es-HN" : "en";

function megabytes(bytes) {
  return `${(bytes / 1048576).toLocaleString(region, { maximumFractionDigits: bytes < 1048576 ? 3 : 1 })} MB`;
}

function meter(label, used, most) {
  const row = element("div", { class: "mb-2" });
  row.append(element("div", { class: "d-flex justify-content-between small" }, element("span", {}, label), element("span", { class: "text-secondary" }, most ? `${megabytes(used)} / ${megabytes(most)}` : megabytes(used))));
  if (most) row.append(element("meter", { class: "w-100", min: 0, max: most, high: most * 0.8, value: used, "aria-label": label }));
  return row;
}

function showRedis(report) {
  const card = document.getElementById("panel-redis");
  if (report.error) {
    card.replaceChildren(element("p", { class: "mb-0" }, words.redis_away));
    return;
  }
  const names = { broker: words.broker, results: words.results, cache: words.cache, reserved: words.reserved };
  const rows = [meter(words.memory, report.used, report.maximum)];
  for (const one of report.databases) {
    rows.push(meter(`DB ${one.db} · ${names[one.name] || one.name} · ${one.keys} ${words.keys}`, one.bytes, one.budget));
  }
  const facts = [`${words.role}: ${report.role}`, `${words.replicas}: ${report.replicas}`, `${words.policy}: ${report.policy}`, `${words.evicted}: ${report.evicted}`];
  rows.push(element("p", { class: "text-secondary small mb-0" }, facts.join(" · ")));
  for (const fault of report.faults) {
    const tone = fault.grave ? "danger" : "warning";
    rows.push(element("div", { class: `alert alert-${tone} mt-2 mb-0` }, element("p", { class: "mb-1" }, fault.detail), element("p", { class: "mb-0" }, fault.remedy)));
  }
  card.replaceChildren(...rows);
}

async function poll() {
  if (polling || over || document.hidden) return;
  polling = true;
  clearTimeout(timer);
  try {
    const watched = [...known.keys()].slice(-20).join(",");
    const state = await call(`${panel.dataset.stateUrl}?watch=${encodeURIComponent(watched)}`);
    if (!state) return;
    showTasks(state);
    showQueues(state.queues);
    warn(state.queues.some((queue) => queue.workers == null) ? words.redis_away : "");
    panel.classList.remove("sb-stale");
    for (const button of buttons) button.disabled = false;
    wait = POLL_MS;
  } catch {
    wait = Math.min(MOST_MS, wait * 2);
    warn(words.offline);
  } finally {
    polling = false;
    if (!over) timer = setTimeout(poll, wait);
  }
  if (!over && Date.now() - redisAt > REDIS_MS) {
    redisAt = Date.now();
    try {
      const report = await call(panel.dataset.redisUrl);
      if (report) showRedis(report);
    } catch {
      showRedis({ error: true });
    }
  }
}

function soon() {
  clearTimeout(timer);
  wait = POLL_MS;
  poll();
}

for (const button of buttons) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const answer = await post(button.dataset.start);
      if (!answer) return;
      const again = answer.status === "already_running" || answer.already_running;
      say(`${button.textContent.trim()}: ${again ? words.already_running : words.started}`, true);
    } catch (error) {
      say(error.message || words.failed, true);
      notice.hidden = false;
      notice.textContent = error.message || words.failed;
    }
    if (!over) button.disabled = false;
    soon();
  });
}
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) soon();
});
poll();
