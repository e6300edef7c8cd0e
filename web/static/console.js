const REFRESH_MS = 2000;
const MOST_ORDERS = 20;
const MOST_PARKED = 20;
const byId = (id) => document.getElementById(id);
let token = null;
let asOf = null;

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.detail), { status: answer.status });
  return body;
}

function fill(id, rows) {
  byId(id).replaceChildren(
    ...rows.map((cells) => {
      const row = document.createElement("tr");
      for (const cell of cells) row.insertCell().textContent = cell ?? "";
      return row;
    }),
  );
}

function byTopic(lag) {
  const topics = new Map();
  for (const { topic, lag: behind } of lag) {
    const [partitions, sum] = topics.get(topic) ?? [0, 0];
    topics.set(topic, [partitions + 1, sum + behind]);
  }
  return [...topics].map(([topic, [partitions, sum]]) => [topic, partitions, sum]);
}

async function underWay() {
  const pages = await Promise.all(
    // Paid orders first: those that only wait for their customers may be many.
    ["PAID", "CREATED"].map((status) =>
      ask(`/api/orders/admin?status=${status}&limit=${MOST_ORDERS}`),
    ),
  );
  const orders = pages.flatMap((page) => page.data).slice(0, MOST_ORDERS);
  return Promise.all(
    orders.map(async ({ id }) => {
      const { status, waitingFor } = await ask(`/api/orders/${id}/explain`);
      return [id, status, waitingFor?.what, waitingFor?.since];
    }),
  );
}

async function parked() {
  const { data } = await ask(`/api/parked?limit=${MOST_PARKED}`);
  return data.map((m) => [m.id, m.handler, m.orderId, m.state, m.error, m.parkedAt]);
}

async function refresh() {
  try {
    const [health, ready, monitor, orders, messages] = await Promise.all([
      fetch("/health").then((answer) => answer.json()),
      fetch("/readyz").then((answer) => answer.json()),
      ask("/api/monitor"),
      underWay(),
      parked(),
    ]);
    fill("worker", [
      ["Version", monitor.version],
      ["PostgreSQL and Kafka", health.status],
      ["Ready", ready.status],
      ["Rebalancing", monitor.rebalancing ? "yes" : "no"],
      ["Events a second", monitor.eventsPerSecond.toFixed(1)],
      ["Waiting in the outbox", monitor.outbox.waiting],
      ["Oldest of them", monitor.outbox.oldest],
    ]);
    fill("lag", byTopic(monitor.lag));
    fill("orders", orders);
    fill("parked", messages);
    byId("board").hidden = false;
    asOf = monitor.timestamp;
    byId("message").textContent = `As of ${asOf}`;
  } catch (error) {
    byId("message").textContent = asOf ? `${error.message}; below is as of ${asOf}` : error.message;
    if (error.status === 401 || error.status === 403) return leave();
  }
  setTimeout(refresh, REFRESH_MS);
}

function leave() {
  token = null;
  asOf = null;
  byId("board").hidden = true;
  byId("login").hidden = false;
}

byId("login").querySelector("button").disabled = false;
byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const account = Object.fromEntries(new FormData(event.target));
  try {
    const login = await ask("/api/auth/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(account),
    });
    token = login.token;
    event.target.reset();
    event.target.hidden = true;
    await refresh();
  } catch (error) {
    byId("message").textContent = error.message;
  }
});
