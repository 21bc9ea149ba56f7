const byId = (id) => document.getElementById(id);
const sums = { confirmed: 0, refused: 0, money: 0 };
const arrivals = [];

function cell(text, name = "") {
  const made = document.createElement("td");
  made.textContent = text;
  made.className = name;
  return made;
}

function amount(cents) {
  return (cents / 100).toLocaleString(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
}

function total() {
  byId("confirmed").textContent = sums.confirmed;
  byId("refused").textContent = sums.refused;
  byId("money").textContent = amount(sums.money);
}

function arrived(change) {
  sums[change.status] += 1;
  sums.money += change.status === "confirmed" ? change.total : 0;
  arrivals.push(performance.now());
  total();
  show(change, new Date());
}

function show(change, when) {
  const row = document.createElement("tr");
  row.append(
    cell(when.toLocaleTimeString()),
    cell(change.customer),
    cell(change.status, change.status),
    cell(change.total ? amount(change.total) : "", "number"),
    cell(change.reason),
  );
  byId("orders").prepend(row);
  while (byId("orders").children.length > 100) byId("orders").lastChild.remove();
}

function state(name, text) {
  byId("state").dataset.state = name;
  byId("state").textContent = text;
}

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/orders/feed`);
  socket.onopen = async () => {
    const [totals, latest] = await Promise.all(["/totals", "/orders?limit=50"].map((path) => fetch(path).then((answer) => answer.json())));
    Object.assign(sums, { confirmed: totals.confirmed, refused: totals.refused, money: totals.cents });
    byId("orders").replaceChildren();
    latest.filter((order) => order.status !== "open").reverse().forEach((order) => show(order, new Date(order.created_at)));
    total();
    state("live", "live");
  };
  socket.onmessage = (message) => arrived(JSON.parse(message.data));
  socket.onclose = () => { state("lost", "reconnecting"); setTimeout(connect, 1000); };
}

byId("form").onsubmit = async (event) => {
  event.preventDefault();
  const line = { sku: byId("sku").value, quantity: byId("quantity").valueAsNumber };
  const order = { customer: byId("customer").value, card: byId("card").value, lines: [line] };
  const answer = await fetch("/orders", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(order) });
  const found = await answer.json();
  byId("answer").className = answer.ok ? "" : "bad";
  byId("answer").textContent = answer.ok ? `Your order is ${found.status}${found.reason ? ": " + found.reason : ""}.` : `${answer.status}: ${found.detail}`;
};

setInterval(() => {  // orders of the last five seconds
  while (arrivals.length && arrivals[0] < performance.now() - 5000) arrivals.shift();
  byId("rate").textContent = (arrivals.length / 5).toFixed(1);
}, 500);

connect();
