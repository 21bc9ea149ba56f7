const byId = (id) => document.getElementById(id);
const sums = { confirmed: 0, refused: 0, cents: 0 };
const seconds = [];  // of the last minute, the present one last: { confirmed, refused }
const SHOWN = 100;   // orders in the table
const MINUTE = 60;
let shelfAsked = 0;

const whole = new Intl.NumberFormat();
const money = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });

function made(tag, text, name = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = name;
  return element;
}

// -- what is shown ---------------------------------------------------------------------------------------------------

function showSums() {
  byId("confirmed").textContent = whole.format(sums.confirmed);
  byId("refused").textContent = whole.format(sums.refused);
  byId("money").textContent = money.format(sums.cents / 100);
}

function showOrder(order, when) {
  const row = document.createElement("tr");
  row.append(
    made("td", when.toLocaleTimeString()),
    made("td", order.customer),
    made("td", order.status, order.status),
    made("td", order.total ? money.format(order.total / 100) : "", "number"),
    made("td", order.reason),
  );
  byId("orders").prepend(row);
  while (byId("orders").children.length > SHOWN) byId("orders").lastChild.remove();
}

function showChart() {
  const width = 600 / MINUTE, height = 96;
  const most = Math.max(5, ...seconds.map((second) => second.confirmed + second.refused));
  const bars = seconds.flatMap((second, index) => {
    const x = (MINUTE - seconds.length + index) * width;
    const refused = (second.refused / most) * height, confirmed = (second.confirmed / most) * height;
    return [bar(x, height - confirmed, width, confirmed, "confirmed"), bar(x, height - confirmed - refused, width, refused, "refused")];
  });
  byId("chart").replaceChildren(...bars.filter(Boolean));
  const last = seconds.slice(-6, -1);
  const orders = last.reduce((sum, second) => sum + second.confirmed + second.refused, 0);
  byId("rate").textContent = last.length ? (orders / last.length).toFixed(1) : "0.0";
}

function bar(x, y, width, height, name) {
  if (!height) return null;
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [key, value] of Object.entries({ x: x + 1, y, width: width - 2, height, class: name })) rect.setAttribute(key, value);
  return rect;
}

function showShelf(stock) {
  const most = Math.max(1, ...Object.values(stock));
  byId("shelf").replaceChildren(...Object.entries(stock).sort().map(([sku, left]) => {
    const item = document.createElement("li"), meter = document.createElement("meter");
    Object.assign(meter, { min: 0, max: most, low: most / 20, optimum: most, value: left });
    meter.setAttribute("aria-label", `${left} of ${sku} left`);
    item.append(made("span", sku), made("span", left ? `${whole.format(left)} left` : "sold out"), meter);
    return item;
  }));
}

function showState(name, text) {
  byId("state").dataset.state = name;
  byId("state").textContent = text;
  byId("lost").hidden = name !== "lost";
}

function tell(id, text, kind = "") {
  byId(id).className = kind;
  byId(id).textContent = text;
}

// -- what comes in ---------------------------------------------------------------------------------------------------

function arrived(change) {
  sums[change.status] += 1;
  sums.cents += change.status === "confirmed" ? change.total : 0;
  seconds.at(-1)[change.status] += 1;
  showSums();
  showOrder(change, new Date());
  const now = performance.now();
  if (now - shelfAsked > 1000) { shelfAsked = now; setTimeout(askShelf, 200); }
}

async function json(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail ?? answer.statusText);
  return found;
}

const askShelf = () => json("/shelf").then(showShelf).catch(() => {});  // the feed tells when the shop is gone

async function begin() {
  const [totals, orders] = await Promise.all([json("/totals"), json(`/orders?limit=${SHOWN}`)]);
  Object.assign(sums, totals);
  showSums();
  byId("orders").replaceChildren();
  seconds.splice(0, seconds.length, ...Array.from({ length: MINUTE }, () => ({ confirmed: 0, refused: 0 })));
  for (const order of orders.reverse()) {
    const when = new Date(order.created_at), second = seconds.at(-1 - Math.floor((Date.now() - when) / 1000));
    if (second?.[order.status] !== undefined) second[order.status] += 1;
    showOrder(order, when);
  }
  showChart();
  askShelf();
}

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/orders/feed`);
  socket.onopen = () => begin().then(() => showState("live", "live"), () => socket.close());
  socket.onmessage = (message) => {
    const change = JSON.parse(message.data);
    if (!change.error) arrived(change);  // the last frame says why the feed ends, such as that the service stops
  };
  socket.onclose = () => { showState("lost", "not connected"); setTimeout(connect, 1000); };
}

// -- what goes out ---------------------------------------------------------------------------------------------------

byId("form").onsubmit = async (event) => {
  event.preventDefault();
  const lines = [{ sku: byId("sku").value, quantity: Number(byId("quantity").value) }];
  try {
    const order = await json("/orders", { customer: byId("customer").value, card: byId("card").value, lines });
    const good = order.status === "confirmed";
    tell("answer", good ? `Confirmed: ${money.format(order.total / 100)}` : `Refused: ${order.reason}`, good ? "good" : "bad");
  } catch (error) {
    tell("answer", `That did not work: ${error.message}`, "bad");
  }
};

for (const button of document.querySelectorAll("[data-orders]")) {
  button.onclick = async () => {
    const orders = Number(button.dataset.orders);
    button.disabled = true;
    try {
      await json("/crowd", { orders, per_second: Number(button.dataset.pace) });
      tell("sent", `${orders} customers are on their way.`);
    } catch (error) {
      tell("sent", `Nobody came: ${error.message}`, "bad");
    }
    setTimeout(() => { button.disabled = false; }, 1000);
  };
}

seconds.push({ confirmed: 0, refused: 0 });
setInterval(() => {
  seconds.push({ confirmed: 0, refused: 0 });
  if (seconds.length > MINUTE) seconds.shift();
  showChart();
}, 1000);
showChart();
connect();
