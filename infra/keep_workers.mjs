// Loaded into every Node.js of an instance before its own code. OpenClaw 2026.9.6 ends the worker threads of its stores
// after a minute without work, and starts them all again with the next message, which then waits for seconds. The timer
// that it sets where a worker falls idle never fires here; its other timers, the deadlines of tasks among them, do.
// Where OpenClaw calls that place otherwise some day, its workers rest as it wants.
const within = globalThis.setTimeout;
const NEVER = 2 ** 31 - 1;

function setTimeout(callback, delay, ...rest) {
  const rests = delay >= 30_000 && delay <= 60_000 && /\.idle \(\S*worker-task-pool/.test(new Error().stack);
  return within(callback, rests ? NEVER : delay, ...rest);
}

globalThis.setTimeout = Object.defineProperties(setTimeout, Object.getOwnPropertyDescriptors(within));
