const byId = (id) => document.getElementById(id);
const sums = { confirmed: 0, refused: 0, money: 0 };

function cell(text, name = "") {
  const made = document.createElement("td");
  made.textContent = text;
  made.className = name;
  return made;
}

function show(change) {
  sums[change.status] += 1;
  sums.money += change.status === "confirmed" ? change.total : 0;
  byId("confirmed").textContent = sums.confirmed;
  byId("refused").textContent = sums.refused;
  byId("money").textContent = (sums.money / 100).toFixed(2);
  const row = document.createElement("tr");
  row.append(
    cell(new Date().toLocaleTimeString()),
    cell(change.customer),
    cell(change.status, change.status),
    cell((change.total / 100).toFixed(2), "number"),
    cell(change.reason),
  );
  byId("orders").prepend(row);
  while (byId("orders").children.length > 100) byId("orders").lastChild.remove();
  byId("empty").hidden = true;
}

function connect() {
  const socket = new WebSocket(`ws://${location.host}/orders/feed`);
  socket.onopen = () => { byId("state").textContent = "live"; };
  socket.onmessage = (message) => show(JSON.parse(message.data));
  socket.onclose = () => { byId("state").textContent = "reconnecting…"; setTimeout(connect, 1000); };
}

connect();
