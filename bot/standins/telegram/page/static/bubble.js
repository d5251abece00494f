// One message: what it answers, its content, its time, its reactions and its buttons.

import { clockTime, h, iconButton } from "./dom.js";
import { formatted, link, safeUrl } from "./entities.js";
import { media, summary } from "./media.js";

const QUICK_REACTIONS = ["👍", "❤️", "🔥", "😁", "🎉", "🤔"];

// `actions`: say, reply, edit, react, press(message, button, element), jump(id), toast(text).
export function fillBubble(element, { message, reactions }, own, actions) {
  const text = message.text ?? message.caption ?? "";
  const entities = message.entities ?? message.caption_entities;
  const visual = media(message);
  element.className = `message ${own ? "own" : "bot"}${visual ? " with-media" : ""}`;
  const bubble = h("div", { class: "bubble", ondblclick: () => actions.reply(message) },
    message.forward_origin && h("p", { class: "forwarded" }, `Forwarded from ${message.forward_origin.sender_user?.first_name ?? "somebody"}`),
    message.reply_to_message && quote(message.reply_to_message, actions),
    visual,
    text && h("div", { class: "text" }, formatted(text, entities, actions.say)),
    h("div", { class: "foot" }, reactionRow(message, reactions, actions),
      h("span", { class: "meta" }, message.edit_date && h("span", { class: "edited" }, "edited"),
        h("time", { datetime: new Date(message.date * 1000).toISOString() }, clockTime(message.date)),
        own && h("span", { class: "tick", "aria-hidden": "true" }))),
    toolbar(message, own, actions));
  element.replaceChildren(...[bubble, keyboard(message, actions)].filter(Boolean));
}

function quote(replied, actions) {
  return h("button", { type: "button", class: "quote", onclick: () => actions.jump(replied.message_id) },
    h("b", {}, replied.from.first_name), h("span", {}, summary(replied)));
}

function reactionRow(message, reactions, actions) {
  const counts = new Map();
  for (const reaction of reactions.flat()) {
    const emoji = reaction.emoji ?? "⭐";
    counts.set(emoji, (counts.get(emoji) ?? 0) + 1);
  }
  return h("span", { class: "reactions" }, [...counts].map(([emoji, count]) =>
    h("button", { type: "button", class: "reaction", "aria-label": `${emoji}, ${count}`, onclick: () => actions.react(message, emoji) },
      emoji, count > 1 && h("span", {}, String(count)))));
}

function toolbar(message, own, actions) {
  const editable = own && (message.text || message.caption);
  const picker = h("span", { class: "reaction-picker", hidden: true }, QUICK_REACTIONS.map((emoji) =>
    h("button", { type: "button", "aria-label": `React with ${emoji}`,
      onclick: () => { picker.hidden = true; actions.react(message, emoji); } }, emoji)));
  return h("div", { class: "toolbar" }, picker,
    iconButton("smile", "React", () => { picker.hidden = !picker.hidden; }),
    iconButton("reply", "Reply", () => actions.reply(message)),
    editable && iconButton("edit", "Edit", () => actions.edit(message)));
}

function keyboard(message, actions) {
  const rows = message.reply_markup?.inline_keyboard;
  if (!rows) return null;
  return h("div", { class: "inline-keyboard" }, rows.map((row) =>
    h("div", { class: "keyboard-row" }, row.map((button) => inlineButton(message, button, actions)))));
}

function inlineButton(message, button, actions) {
  const target = button.url ?? button.web_app?.url ?? button.login_url?.url;
  if (target && safeUrl(target)) {
    const element = link(target, button.text, h("span", { class: "arrow", "aria-hidden": "true" }, "↗"));
    element.className = "inline-button";
    return element;
  }
  const element = h("button", { type: "button", class: "inline-button" }, button.text);
  element.addEventListener("click", () => {
    if (button.callback_data) actions.press(message, button, element);
    else if (button.copy_text) navigator.clipboard?.writeText(button.copy_text.text).then(() => actions.toast("Copied"));
    else actions.toast("This kind of button does nothing in the simulator.");
  });
  return element;
}
