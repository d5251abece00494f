// The menu that orders faults of the simulated Telegram.

import { api } from "./api.js";
import { h } from "./dom.js";

const CHOICES = [
  ["Next send: 429, retry after 3 s", { kind: "too_many_requests", retry_after: 3, methods: ["sendMessage"] }],
  ["Next 5 calls: 429, retry after 1 s", { kind: "too_many_requests", retry_after: 1, count: 5 }],
  ["Bad gateway for 10 s", { kind: "bad_gateway", count: null, seconds: 10 }],
  ["Cut connections for 10 s", { kind: "cut", count: null, seconds: 10 }],
  ["Next send: carried out, answer lost", { kind: "cut_after", methods: ["sendMessage"] }],
  ["Slow: 2 s a call, for 30 s", { kind: "latency", delay: 2, count: null, seconds: 30 }],
];

export class FaultMenu {
  constructor(button, menu) {
    this.button = button;
    this.menu = menu;
    this.dot = button.querySelector(".fault-dot");
    button.addEventListener("click", () => this.toggle());
    document.addEventListener("click", (event) => { if (!button.parentElement.contains(event.target)) this.toggle(false); });
    button.parentElement.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { this.toggle(false); button.focus(); }
    });
    menu.append(...CHOICES.map(([label, fault]) => this.item(label, () => api.orderFault(fault))),
      this.item("Clear all faults", () => api.clearFaults(), "clear"));
  }

  item(label, action, kind = "") {
    return h("button", { type: "button", role: "menuitem", class: kind, onclick: () => { this.toggle(false); action(); } }, label);
  }

  toggle(open = this.menu.hidden) {
    this.menu.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (open) this.menu.firstElementChild.focus();
  }

  show(faults) {
    this.dot.hidden = !faults.length;
    clearTimeout(this.timer);
    const ends = faults.map(({ seconds }) => seconds).filter((seconds) => seconds !== null);
    if (ends.length) this.timer = setTimeout(() => this.refresh(), Math.min(...ends) * 1000 + 200);
  }

  async refresh() { this.show((await api.state()).faults); }
}
