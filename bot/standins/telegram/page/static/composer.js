// Where a person writes: text, files, commands, the bot's keyboard, and what is being answered or edited.

import { h, icon, iconButton } from "./dom.js";
import { summary } from "./media.js";

const PHOTO = /^image\/(png|jpeg|webp)$/;

function fileKind(file) {
  if (PHOTO.test(file.type)) return "photo";
  if (file.type === "image/gif") return "animation";
  if (file.type === "audio/ogg") return "voice";
  if (file.type.startsWith("audio/")) return "audio";
  return file.type === "video/mp4" ? "video" : "document";
}

export class Composer {
  // `handlers`: say(text, replyTo), edit(id, text), sendFile(file, kind, caption, replyTo); each returns a promise.
  constructor(botName, handlers) {
    this.handlers = handlers;
    this.commands = [];
    this.files = [];
    this.reply = null;
    this.editing = null;
    this.selected = 0;
    this.input = h("textarea", { rows: "1", placeholder: `Message ${botName}`, "aria-label": `Message ${botName}`,
      oninput: () => this.changed(), onkeydown: (event) => this.key(event), onpaste: (event) => this.pasted(event) });
    this.picker = h("input", { type: "file", multiple: true, hidden: true, onchange: () => { this.addFiles(this.picker.files); this.picker.value = ""; } });
    this.menuButton = h("button", { type: "button", class: "menu-button", hidden: true, "aria-expanded": "false",
      onclick: () => this.toggleMenu() }, h("span", { "aria-hidden": "true" }, "/"), h("span", { class: "visually-hidden" }, "Commands"));
    this.sendButton = h("button", { type: "submit", class: "send", "aria-label": "Send", disabled: true }, icon("send"));
    this.keyboardButton = iconButton("keyboard", "Show the bot's keyboard", () => { this.keyboardRows.hidden = !this.keyboardRows.hidden; }, { hidden: true });
    this.menu = h("ul", { class: "command-menu", role: "listbox", "aria-label": "Commands", hidden: true });
    this.notice = h("div", { class: "composer-notice", hidden: true });
    this.keyboardRows = h("div", { class: "reply-keyboard", hidden: true });
    this.element = h("form", { class: "composer", onsubmit: (event) => { event.preventDefault(); this.submit(); } },
      this.menu, this.notice,
      h("div", { class: "composer-row" }, this.menuButton, iconButton("attach", "Attach a file", () => this.picker.click()),
        this.input, this.keyboardButton, this.sendButton),
      this.keyboardRows, this.picker);
  }

  focus() { this.input.focus(); }

  setCommands(commands) {
    this.commands = commands;
    this.menuButton.hidden = !commands.length;
    this.showMenu();
  }

  setKeyboard(markup) {
    const rows = markup?.keyboard ?? [];
    this.keyboardRows.replaceChildren(...rows.map((row) => h("div", { class: "keyboard-row" }, row.map((button) => {
      const text = typeof button === "string" ? button : button.text;
      return h("button", { type: "button", onclick: () => {
        if (markup.one_time_keyboard) this.keyboardRows.hidden = true;
        this.handlers.say(text, null);
      } }, text);
    }))));
    this.keyboardRows.hidden = !rows.length;
    this.keyboardButton.hidden = !rows.length;
    this.input.placeholder = markup?.input_field_placeholder || this.input.getAttribute("aria-label");
  }

  startReply(message) {
    this.editing = null;
    this.reply = message;
    this.changed();
    this.focus();
  }

  startEdit(message) {
    this.reply = null;
    this.editing = message;
    this.input.value = message.text ?? message.caption ?? "";
    this.changed();
    this.focus();
  }

  addFiles(files) {
    this.files.push(...files);
    this.changed();
    this.focus();
  }

  changed() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight, 160)}px`;
    this.sendButton.disabled = !this.input.value.trim() && !this.files.length;
    this.showNotice();
    this.selected = 0;
    this.showMenu();
  }

  showNotice() {
    const { editing, reply, files } = this;
    this.notice.hidden = !editing && !reply && !files.length;
    if (this.notice.hidden) return;
    let title, text;
    if (files.length) [title, text] = [files.length > 1 ? `${files.length} files` : "File", files.map((file) => file.name).join(", ")];
    else if (editing) [title, text] = ["Edit message", summary(editing)];
    else [title, text] = [`Reply to ${reply.from.first_name}`, summary(reply)];
    this.notice.replaceChildren(h("div", {}, h("b", {}, title), h("span", {}, text)),
      iconButton("close", "Cancel", () => this.cancel()));
  }

  cancel() {
    if (this.editing) this.input.value = "";
    this.reply = this.editing = null;
    this.files = [];
    this.changed();
    this.focus();
  }

  matching() {
    const text = this.input.value;
    if (!/^\/\w*$/.test(text)) return [];
    return this.commands.filter(({ command }) => command.startsWith(text.slice(1).toLowerCase()));
  }

  showMenu() {
    const commands = this.matching();
    this.menu.hidden = !commands.length;
    this.menuButton.setAttribute("aria-expanded", String(!this.menu.hidden));
    this.menu.replaceChildren(...commands.map(({ command, description }, index) =>
      h("li", { role: "option", "aria-selected": String(index === this.selected), onclick: () => this.choose(command) },
        h("b", {}, `/${command}`), h("span", {}, description))));
    this.menu.children[this.selected]?.scrollIntoView({ block: "nearest" });
  }

  toggleMenu() {
    this.input.value = this.menu.hidden ? "/" : "";
    this.changed();
    this.focus();
  }

  choose(command) {
    this.input.value = "";
    this.changed();
    this.handlers.say(`/${command}`, null);
    this.focus();
  }

  key(event) {
    const commands = this.matching();
    if (commands.length && ["ArrowDown", "ArrowUp"].includes(event.key)) {
      event.preventDefault();
      this.selected = (this.selected + (event.key === "ArrowDown" ? 1 : commands.length - 1)) % commands.length;
      this.showMenu();
    } else if (commands.length && event.key === "Tab" && !event.shiftKey) {
      event.preventDefault();
      this.input.value = `/${commands[this.selected].command} `;
      this.changed();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (commands.length) this.choose(commands[this.selected].command);
      else this.submit();
    } else if (event.key === "Escape") {
      this.cancel();
    }
  }

  pasted(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    this.addFiles(files);
  }

  async submit() {
    const { input, files, reply, editing } = this;
    const text = input.value;
    if (!text.trim() && !files.length) return;
    input.value = "";
    this.files = [];
    this.reply = this.editing = null;
    this.changed();
    if (editing) return this.handlers.edit(editing.message_id, text);
    if (!files.length) return this.handlers.say(text, reply?.message_id);
    for (const [index, file] of files.entries()) {
      await this.handlers.sendFile(file, fileKind(file), index ? "" : text, reply?.message_id);
    }
  }
}
