// The control API under /sim, as the person in the chat uses it.

async function call(method, path, body) {
  const options = { method };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(`sim/${path}`, options);
  } catch {
    throw new Error("The simulator does not answer. Is it still running?");
  }
  if (answer.status === 204) return null;
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    throw new Error(typeof content.detail === "string" ? content.detail : `The simulator refused this (${answer.status}).`);
  }
  return content;
}

export const api = {
  state: () => call("GET", "state"),
  chat: (id) => call("GET", `chats/${id}`),
  newPerson: (person = {}) => call("POST", "users", person),
  say: (id, text, replyTo) => call("POST", `users/${id}/messages`, { text, reply_to: replyTo ?? null }),
  edit: (id, messageId, text) => call("PATCH", `users/${id}/messages/${messageId}`, { text }),
  press: (id, messageId, data) => call("POST", `users/${id}/press`, { message_id: messageId, data }),
  react: (id, messageId, emoji) => call("POST", `users/${id}/reactions`, { message_id: messageId, emoji }),
  block: (id, blocked) => call(blocked ? "PUT" : "DELETE", `users/${id}/block`),
  orderFault: (fault) => call("POST", "faults", fault),
  clearFaults: () => call("DELETE", "faults"),
  sendFile(id, file, kind, caption, replyTo) {
    const form = new FormData();
    form.set("file", file, file.name);
    form.set("kind", kind);
    form.set("caption", caption);
    if (replyTo) form.set("reply_to", replyTo);
    return call("POST", `users/${id}/files`, form);
  },
};

export const fileUrl = (uniqueId) => `sim/files/${encodeURIComponent(uniqueId)}`;
