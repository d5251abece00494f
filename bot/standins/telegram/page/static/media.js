// Files and other things in a message that are not its text.

import { fileUrl } from "./api.js";
import { h, icon } from "./dom.js";
import { link } from "./entities.js";

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KB` : `${(bytes / 1024 / 1024).toFixed(1)} MB`;
}

function fileCard(file, name) {
  return h("a", { class: "file-card", href: fileUrl(file.file_unique_id), download: name },
    h("span", { class: "file-icon" }, icon("file")),
    h("span", { class: "file-text" }, h("b", {}, name), h("small", {}, size(file.file_size))));
}

function picture(file, label) {
  return h("a", { class: "picture", href: fileUrl(file.file_unique_id), target: "_blank" },
    h("img", { src: fileUrl(file.file_unique_id), alt: label, width: file.width, height: file.height, loading: "lazy" }));
}

function player(tag, file, attributes = {}) {
  return h(tag, { controls: true, preload: "metadata", src: fileUrl(file.file_unique_id), ...attributes });
}

export function media(message) {
  if (message.photo) return picture(message.photo.at(-1), message.caption || "Photo");
  if (message.sticker) return h("img", { class: "sticker", src: fileUrl(message.sticker.file_unique_id), alt: "Sticker" });
  if (message.animation) {
    const moving = message.animation.mime_type === "image/gif";
    return moving ? picture(message.animation, "Animation") : player("video", message.animation, { loop: true });
  }
  if (message.voice) return player("audio", message.voice, { "aria-label": "Voice message" });
  if (message.audio) return [fileCard(message.audio, message.audio.title || message.audio.file_name), player("audio", message.audio)];
  const video = message.video ?? message.video_note;
  if (video) return player("video", video);
  if (message.document) return fileCard(message.document, message.document.file_name);
  if (message.location) return place(message.location);
  if (message.poll) return poll(message.poll);
  return null;
}

function place({ latitude, longitude }) {
  const text = `${latitude.toFixed(5)}, ${longitude.toFixed(5)}`;
  return h("div", { class: "place" }, h("span", { "aria-hidden": "true" }, "📍"),
    link(`https://www.openstreetmap.org/?mlat=${latitude}&mlon=${longitude}`, text));
}

function poll({ question, options }) {
  return h("div", { class: "poll" }, h("b", {}, question), h("ul", {}, options.map((option) => h("li", {}, option.text))));
}

export function summary(message) {
  if (message.text || message.caption) return message.text || message.caption;
  const kinds = { photo: "Photo", sticker: "Sticker", animation: "Animation", voice: "Voice message", audio: "Audio",
    video: "Video", video_note: "Video message", document: "File", location: "Location", poll: "Poll" };
  return kinds[Object.keys(kinds).find((kind) => message[kind])] ?? "Message";
}
