// One person's chat with the bot.

import { api } from "./api.js";
import { fillBubble } from "./bubble.js";
import { Composer } from "./composer.js";
import { avatar, dayName, fullName, h, iconButton } from "./dom.js";
import { formatted } from "./entities.js";
import { renderTimeline } from "./timeline.js";

const TYPING_MS = 5500;
const DRAFT_MS = 30000;
const ACTIONS = { typing: "is typing", upload_photo: "is sending a photo", upload_document: "is sending a file",
  record_voice: "is recording a voice message", upload_voice: "is sending a voice message" };

export class Column {
  constructor(person, bot, onClose) {
    this.person = person;
    this.bot = bot;
    this.version = -1;
    this.items = new Map();
    this.elements = new Map();
    this.timeline = [];
    this.waiting = new Map();
    this.build(onClose);
  }

  build(onClose) {
    const name = fullName(this.person);
    const attempt = (action) => this.attempt(action);
    this.composer = new Composer(this.bot.first_name, {
      say: (text, replyTo) => attempt(() => api.say(this.person.id, text, replyTo)),
      edit: (id, text) => attempt(() => api.edit(this.person.id, id, text)),
      sendFile: (file, kind, caption, replyTo) => attempt(() => api.sendFile(this.person.id, file, kind, caption, replyTo)),
    });
    this.status = h("span", { class: "status" });
    this.list = h("div", { class: "messages", role: "log", "aria-live": "polite", "aria-label": `Messages of ${name}`, tabindex: "0",
      onscroll: () => this.scrolled() });
    this.typing = h("div", { class: "message bot typing", hidden: true, "aria-hidden": "true" },
      h("div", { class: "bubble" }, h("i"), h("i"), h("i")));
    this.draft = h("div", { class: "message bot draft", hidden: true });
    this.downButton = iconButton("down", "To the latest message", () => this.toEnd(), { class: "icon-button to-end", hidden: true });
    this.toasts = h("div", { class: "toasts", role: "status" });
    this.pinBar = h("button", { type: "button", class: "pin-bar", hidden: true });
    this.timelineList = h("ul", { class: "timeline-list" });
    this.timelinePanel = h("section", { class: "timeline", "aria-label": `What ${this.bot.first_name} did`, hidden: true },
      h("h3", {}, `What ${this.bot.first_name} did`), this.timelineList);
    this.timelineButton = iconButton("timeline", "Timeline", () => this.toggleTimeline(), { "aria-pressed": "false", hidden: true });
    this.blockedBanner = h("div", { class: "blocked-banner", role: "status", hidden: true }, `You blocked ${this.bot.first_name}.`,
      h("button", { type: "button", class: "button", onclick: () => attempt(() => api.block(this.person.id, false)) }, "Unblock"));
    this.menu = h("div", { class: "menu", role: "menu", hidden: true },
      this.menuItem("Copy link to this chat", () => this.copyLink()),
      this.blockItem = this.menuItem(`Block ${this.bot.first_name}`, () => attempt(() => api.block(this.person.id, !this.blocked))),
      this.menuItem("Close this column", onClose));
    this.menuButton = iconButton("more", "More", () => this.toggleMenu(), { "aria-haspopup": "true" });
    this.dropHint = h("div", { class: "drop-hint", "aria-hidden": "true" }, "Drop files to send them");
    this.element = h("section", { class: "column", "aria-label": `Chat of ${name}`, dataset: { user: this.person.id } },
      h("header", { class: "column-head" }, avatar(this.person),
        h("div", { class: "column-title" }, h("h2", {}, name), this.status),
        this.timelineButton, h("div", { class: "menu-anchor" }, this.menuButton, this.menu)),
      this.pinBar,
      h("div", { class: "message-area" }, this.list, this.downButton, this.toasts),
      this.composer.element, this.blockedBanner, this.timelinePanel, this.dropHint);
    this.following = true;
    this.list.addEventListener("load", () => this.follow(), true);
    new ResizeObserver(() => this.follow()).observe(this.list);
    this.acceptDrops();
    this.element.addEventListener("focusout", (event) => {
      if (!this.menu.contains(event.relatedTarget) && event.relatedTarget !== this.menuButton) this.menu.hidden = true;
    });
    this.showStatus();
  }

  menuItem(label, action) {
    return h("button", { type: "button", role: "menuitem", onclick: () => { this.menu.hidden = true; action(); } }, label);
  }

  toggleMenu() {
    this.menu.hidden = !this.menu.hidden;
    if (!this.menu.hidden) this.menu.firstElementChild.focus();
  }

  async load() {
    const chat = await api.chat(this.person.id);
    this.version = chat.version;
    this.items = new Map(chat.messages.map((item) => [item.message.message_id, item]));
    this.timeline = chat.timeline;
    this.elements.clear();
    this.list.replaceChildren(this.draft, this.typing);
    for (const id of this.items.keys()) this.renderMessage(id);
    this.composer.setCommands(chat.commands);
    this.composer.setKeyboard(chat.keyboard);
    this.setBlocked(chat.blocked);
    this.setPinned(chat.pinned);
    this.renderTimeline();
    this.arrange();
    this.toEnd();
  }

  async refreshCommands() {
    this.composer.setCommands((await api.chat(this.person.id)).commands);
  }

  // Events that are already part of what was loaded have no higher version.
  receive(event) {
    if (event.version !== undefined) {
      if (event.version <= this.version) return;
      this.version = event.version;
    }
    const handler = this[`on_${event.kind}`];
    if (handler) handler.call(this, event);
  }

  on_message({ message }) {
    if (message.from.id === this.person.id) this.following = true;
    if (message.from.is_bot) this.calm();
    this.items.set(message.message_id, { message, reactions: [] });
    this.renderMessage(message.message_id);
    this.arrange();
    this.follow();
  }

  on_edited({ message }) {
    const item = this.items.get(message.message_id);
    if (!item) return;
    item.message = message;
    this.renderMessage(message.message_id);
    this.arrange();
    this.follow();
  }

  on_deleted({ message_id: id }) {
    this.items.delete(id);
    this.elements.get(id)?.remove();
    this.elements.delete(id);
    this.arrange();
  }

  on_reaction({ message_id: id, reactions }) {
    const item = this.items.get(id);
    if (!item) return;
    item.reactions = reactions;
    this.renderMessage(id);
    this.arrange();
    this.follow();
  }

  on_action({ action }) {
    this.typing.hidden = false;
    this.showStatus(ACTIONS[action] ?? "is busy");
    clearTimeout(this.typingTimer);
    this.typingTimer = setTimeout(() => this.calm(), TYPING_MS);
    this.arrange();
    this.follow();
  }

  on_draft({ draft }) {
    this.typing.hidden = true;
    this.draft.hidden = false;
    this.draft.replaceChildren(h("div", { class: "bubble" }, h("div", { class: "text" }, draft.text ? formatted(draft.text, draft.entities) : "Thinking…")));
    clearTimeout(this.draftTimer);
    this.draftTimer = setTimeout(() => { this.draft.hidden = true; }, DRAFT_MS);
    this.follow();
  }

  on_callback_answer({ callback_query_id: id, text, show_alert: alert, url }) {
    this.release(id);
    if (text && alert) this.alert(text);
    else if (text) this.toast(text);
    if (url) this.toast(`The bot wants to open ${url}`);
  }

  on_keyboard({ keyboard }) { this.composer.setKeyboard(keyboard); }

  on_blocked({ blocked }) { this.setBlocked(blocked); }

  on_pinned({ pinned }) { this.setPinned(pinned); }

  on_timeline({ entry }) {
    this.timeline.push(entry);
    this.renderTimeline();
  }

  renderMessage(id) {
    const item = this.items.get(id);
    let element = this.elements.get(id);
    if (!element) {
      element = h("article", { dataset: { message: id } });
      this.elements.set(id, element);
      this.draft.before(element);
    }
    fillBubble(element, item, item.message.from.id === this.person.id, {
      say: (text) => this.attempt(() => api.say(this.person.id, text)),
      reply: (message) => this.composer.startReply(message),
      edit: (message) => this.composer.startEdit(message),
      react: (message, emoji) => this.react(message, emoji),
      press: (message, button, pressed) => this.press(message, button, pressed),
      jump: (target) => this.jump(target),
      toast: (text) => this.toast(text),
    });
  }

  // Day separators, tails of the last bubble in a row, ticks, and the greeting of an empty chat.
  arrange() {
    for (const separator of this.list.querySelectorAll(".day, .greeting")) separator.remove();
    const entries = [...this.items.values()].map(({ message }) => message);
    const lastFromBot = entries.findLast((message) => message.from.is_bot)?.message_id ?? 0;
    entries.forEach((message, index) => {
      const [before, after] = [entries[index - 1], entries[index + 1]];
      const element = this.elements.get(message.message_id);
      const newDay = !before || dayName(before.date) !== dayName(message.date);
      if (newDay) element.before(h("div", { class: "day" }, h("span", {}, dayName(message.date))));
      const joined = (other) => other && other.from.id === message.from.id && Math.abs(other.date - message.date) < 300;
      element.classList.toggle("follows", Boolean(!newDay && joined(before)));
      element.classList.toggle("last", !joined(after));
      element.classList.toggle("seen", message.message_id < lastFromBot || !this.typing.hidden);
    });
    if (!entries.length) this.list.prepend(this.greeting());
  }

  greeting() {
    return h("div", { class: "greeting" }, h("img", { src: "static/icon.svg", alt: "", width: "64", height: "64" }),
      h("h3", {}, this.bot.first_name),
      h("p", {}, this.bot.description || "Press Start, or just write something."),
      h("button", { type: "button", class: "button primary", onclick: () => this.attempt(() => api.say(this.person.id, "/start")) }, "Start"));
  }

  react(message, emoji) {
    const { reactions } = this.items.get(message.message_id);
    const mine = this.mine?.get(message.message_id);
    this.mine ??= new Map();
    const same = mine === emoji && reactions.flat().some((reaction) => reaction.emoji === emoji);
    this.mine.set(message.message_id, same ? null : emoji);
    this.attempt(() => api.react(this.person.id, message.message_id, same ? null : emoji));
  }

  async press(message, button, element) {
    element.classList.add("waiting");
    const answer = await this.attempt(() => api.press(this.person.id, message.message_id, button.callback_data));
    if (!answer) return element.classList.remove("waiting");
    this.waiting.set(answer.callback_query_id, element);
    setTimeout(() => this.release(answer.callback_query_id), 20000);
  }

  release(id) {
    this.waiting.get(id)?.classList.remove("waiting");
    this.waiting.delete(id);
  }

  jump(id) {
    const element = this.elements.get(id);
    if (!element) return;
    element.scrollIntoView({ block: "center", behavior: "smooth" });
    element.classList.remove("highlight");
    requestAnimationFrame(() => element.classList.add("highlight"));
  }

  calm() {
    clearTimeout(this.typingTimer);
    this.typing.hidden = true;
    this.draft.hidden = true;
    this.showStatus();
  }

  showStatus(activity) {
    this.status.textContent = activity ? `${this.bot.first_name} ${activity}…` : `with ${this.bot.first_name} · id ${this.person.id}`;
    this.status.classList.toggle("active", Boolean(activity));
  }

  setBlocked(blocked) {
    this.blocked = blocked;
    this.blockedBanner.hidden = !blocked;
    this.composer.element.hidden = blocked;
    this.blockItem.textContent = `${blocked ? "Unblock" : "Block"} ${this.bot.first_name}`;
  }

  setPinned(pinned) {
    const id = pinned.at(-1);
    const item = this.items.get(id);
    this.pinBar.hidden = !item;
    if (!item) return;
    this.pinBar.replaceChildren(h("b", {}, "Pinned message"), h("span", {}, item.message.text ?? item.message.caption ?? "File"));
    this.pinBar.onclick = () => this.jump(id);
  }

  renderTimeline() {
    this.timelineButton.hidden = !this.timeline.length;
    renderTimeline(this.timelineList, this.timeline);
    if (this.timeline.length && !this.timelineOffered) this.toggleTimeline(innerWidth > 640);
  }

  toggleTimeline(open = this.timelinePanel.hidden) {
    this.timelineOffered = true;
    this.timelinePanel.hidden = !open;
    this.timelineButton.setAttribute("aria-pressed", String(open));
    this.timelineList.scrollTop = this.timelineList.scrollHeight;
    this.follow();
  }

  toEnd() {
    this.following = true;
    this.follow();
  }

  // Whoever has not scrolled up sees the latest message, also when a picture loads or the column changes its size.
  follow() {
    if (this.following) this.list.scrollTop = this.list.scrollHeight;
  }

  scrolled() {
    this.following = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < 80;
    this.downButton.hidden = this.following;
  }

  acceptDrops() {
    const over = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      this.element.classList.add("dropping");
    };
    this.element.addEventListener("dragenter", over);
    this.element.addEventListener("dragover", over);
    this.element.addEventListener("dragleave", (event) => {
      if (!this.element.contains(event.relatedTarget)) this.element.classList.remove("dropping");
    });
    this.element.addEventListener("drop", (event) => {
      event.preventDefault();
      this.element.classList.remove("dropping");
      this.composer.addFiles(event.dataTransfer.files);
    });
  }

  async copyLink() {
    const link = new URL(`?user=${this.person.id}`, location.href).href;
    await this.attempt(() => navigator.clipboard.writeText(link));
    this.toast("Link copied");
  }

  async attempt(action) {
    try {
      return await action();
    } catch (error) {
      this.toast(error.message, true);
      return null;
    }
  }

  toast(text, bad = false) {
    const toast = h("div", { class: bad ? "toast bad" : "toast" }, text);
    this.toasts.append(toast);
    setTimeout(() => toast.remove(), 4000);
  }

  alert(text) {
    const dialog = h("dialog", { class: "alert", "aria-label": this.bot.first_name }, h("p", {}, text),
      h("form", { method: "dialog" }, h("button", { class: "button primary" }, "OK")));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }
}
