// Who is here, which chats are open, and the stream of events that keeps them up to date.

import { api } from "./api.js";
import { Column } from "./column.js";
import { avatar, fullName, h } from "./dom.js";
import { FaultMenu } from "./faults.js";

const OPEN_AT_START = 4;
const byId = (id) => document.getElementById(id);
const people = new Map();
const columns = new Map();
const unread = new Map();
let bot;
let faults;

const wanted = () => new URLSearchParams(location.search).getAll("user").map(Number).filter(Number.isSafeInteger);

function rememberOpen() {
  const query = new URLSearchParams([...columns.keys()].map((id) => ["user", id]));
  history.replaceState(null, "", columns.size ? `?${query}` : location.pathname);
  byId("welcome").hidden = columns.size > 0;
  byId("columns").classList.toggle("single", columns.size === 1);
  renderRail();
}

async function open(person) {
  const known = columns.get(person.id);
  if (known) {
    known.element.scrollIntoView({ inline: "center", behavior: "smooth" });
    known.composer.focus();
    return known;
  }
  const column = new Column(person, bot, () => close(person.id));
  columns.set(person.id, column);
  unread.delete(person.id);
  byId("columns").append(column.element);
  rememberOpen();
  await column.load();
  return column;
}

function close(id) {
  columns.get(id)?.element.remove();
  columns.delete(id);
  rememberOpen();
}

async function newPerson() {
  try {
    const person = await api.newPerson();
    people.set(person.id, person);
    const column = await open(person);
    column.element.scrollIntoView({ inline: "end" });
    column.composer.focus();
  } catch (error) {
    setConnection("down", error.message);
  }
}

function renderRail() {
  byId("rail").replaceChildren(...[...people.values()].map((person) => {
    const count = unread.get(person.id);
    const label = `${fullName(person)}${count ? `, ${count} new` : ""}`;
    return h("button", { type: "button", class: "rail-person", title: fullName(person), "aria-label": label,
      "aria-pressed": String(columns.has(person.id)), onclick: () => open(person) },
      avatar(person), count && h("span", { class: "badge" }, String(count)));
  }));
  byId("rail").hidden = !people.size;
}

// A restarted simulator knows nobody; people whose chats are open are made again, with the same ids.
async function reload() {
  const state = await api.state();
  people.clear();
  for (const person of state.people) people.set(person.id, person);
  for (const [id, column] of columns) {
    if (!people.has(id)) {
      const { first_name, last_name = null, username = null, language_code = null } = column.person;
      people.set(id, await api.newPerson({ id, first_name, last_name, username, language_code }));
    }
    await column.load();
  }
  faults.show(state.faults);
  renderRail();
  return state;
}

async function receive(event) {
  if (event.kind === "reset") {
    for (const id of [...columns.keys()]) close(id);
    people.clear();
    rememberOpen();
  } else if (event.kind === "person" || event.kind === "profile") {
    const state = await api.state();
    bot = state.bot;
    for (const person of state.people) people.set(person.id, people.get(person.id) ?? person);
    renderRail();
    if (event.kind === "profile") for (const column of columns.values()) await column.refreshCommands();
  } else if (event.kind === "faults") {
    faults.show(event.faults);
  } else if (columns.has(event.chat_id)) {
    columns.get(event.chat_id).receive(event);
  } else if (event.kind === "message" && people.has(event.chat_id)) {
    unread.set(event.chat_id, (unread.get(event.chat_id) ?? 0) + 1);
    renderRail();
  }
}

const KINDS = ["message", "edited", "deleted", "reaction", "action", "draft", "callback_answer", "keyboard", "blocked", "pinned",
  "timeline", "person", "profile", "faults", "reset"];

function listen(lastId) {
  let position = lastId;
  const source = new EventSource(`sim/events?last_event_id=${encodeURIComponent(position)}`);
  source.onopen = () => setConnection("up", "Connected");
  source.onerror = () => {
    setConnection("down", "Reconnecting…");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(position), 2000);
  };
  source.addEventListener("resync", reload);
  for (const kind of KINDS) {
    source.addEventListener(kind, (event) => {
      position = event.lastEventId;
      receive(JSON.parse(event.data));
    });
  }
}

function setConnection(state, text) {
  const element = byId("connection");
  element.dataset.state = state;
  element.textContent = text;
}

async function start() {
  faults = new FaultMenu(byId("faults-button"), byId("faults-menu"));
  byId("new-person").addEventListener("click", newPerson);
  byId("welcome-person").addEventListener("click", newPerson);
  try {
    const state = await reload();
    bot = state.bot;
    const ids = wanted();
    for (const id of ids) people.set(id, people.get(id) ?? (await api.newPerson({ id })));
    const shown = ids.length ? ids : [...people.keys()].slice(-OPEN_AT_START);
    for (const id of shown) await open(people.get(id));
    rememberOpen();
    listen(state.event_id);
  } catch (error) {
    setConnection("down", error.message);
    setTimeout(startAgain, 2000);
  }
}

function startAgain() { location.reload(); }

start();
