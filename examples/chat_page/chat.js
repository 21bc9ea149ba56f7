// Rooms are chosen by the address: /#kitchen. Names are kept by the browser.
const byId = (id) => document.getElementById(id);
const room = location.hash.slice(1) || "lobby";
const name = byId("name");
let socket;

byId("room").textContent = byId("also").textContent = room;
name.value = localStorage.getItem("name") || `guest ${Math.floor(Math.random() * 90 + 10)}`;

function show(message) {
  const item = document.createElement("li");
  const author = document.createElement("b");
  author.textContent = message.name;
  item.className = message.name === name.value ? "mine" : "";
  item.append(author, message.text);
  byId("messages").append(item);
  item.scrollIntoView();
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/rooms/${room}?name=${encodeURIComponent(name.value)}`);
  socket.onopen = () => { byId("state").textContent = "connected"; };
  socket.onmessage = (message) => show(JSON.parse(message.data));
  socket.onclose = () => { byId("state").textContent = "reconnecting…"; setTimeout(connect, 1000); };
}

name.onchange = () => { localStorage.setItem("name", name.value); socket.close(); };  // joins again under the new name
window.onhashchange = () => location.reload();
byId("form").onsubmit = (event) => {
  event.preventDefault();
  if (socket.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify(byId("text").value));
  byId("text").value = "";
};

connect();
