// Loaded into every Node.js of an instance before its own code. OpenClaw 2026.9.6 ends the worker threads of its stores
// after a minute without work, and starts them all again with the next message, which then waits for seconds. Their
// timers never fire here. Where OpenClaw calls these files otherwise some day, its timers fire as it wants.
const within = globalThis.setTimeout;
const NEVER = 2 ** 31 - 1;

function setTimeout(callback, delay, ...rest) {
  const ends = delay >= 30_000 && delay <= 60_000 && /worker-task-pool|sqlite-worker-store/.test(new Error().stack);
  return within(callback, ends ? NEVER : delay, ...rest);
}

globalThis.setTimeout = Object.defineProperties(setTimeout, Object.getOwnPropertyDescriptors(within));
