// Loaded into every Node.js of an instance before its own code. OpenClaw 2026.9.6 makes a call of the Bot API whose
// connection broke once more or not at all, and gives up after seconds where nobody listens; the reply is lost then. But
// the front may be killed at any moment, and it knows a repetition of a call that it did not answer. So connections to the
// front go through a relay in this process, which makes such a call again until it is answered. Where the relay does not
// come up, connections go to the front as they are.
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { isMainThread } from "node:worker_threads";

// Milliseconds: OpenClaw itself waits for 60 s.
const WITHIN = 55_000;
const PAUSE = 250;
const CALLS = /^\/telegram\/bot[^/]+\/\w+$/;
const relayed = Symbol("zaki.relayed");
const { connect } = net.Socket.prototype;

class Direct extends http.Agent {
  createConnection(options) {
    const socket = new net.Socket();
    socket[relayed] = true;
    return socket.connect({ host: options.host, port: options.port });
  }
}

function ask(front, agent, incoming, outgoing, body) {
  const { method, url: path, headers } = incoming;
  return new Promise((resolve, reject) => {
    const request = http.request({ agent, host: front.hostname, port: front.port, method, path, headers }, resolve);
    request.on("error", reject);
    outgoing.once("close", () => request.destroy());
    if (body) request.end(body);
    else incoming.pipe(request);
  });
}

async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function call(front, agent, incoming, outgoing) {
  const body = await all(incoming);
  const until = Date.now() + WITHIN;
  while (!outgoing.destroyed) {
    try {
      const answer = await ask(front, agent, incoming, outgoing, body);
      const said = await all(answer);
      // The front says so where it cannot keep the call now.
      if (answer.statusCode !== 503 || Date.now() > until) {
        outgoing.writeHead(answer.statusCode, answer.rawHeaders).end(said);
        return;
      }
    } catch (error) {
      if (Date.now() > until) throw error;
    }
    await sleep(PAUSE);
  }
}

async function pass(front, agent, incoming, outgoing) {
  const answer = await ask(front, agent, incoming, outgoing, null);
  answer.on("error", () => outgoing.destroy());
  outgoing.writeHead(answer.statusCode, answer.rawHeaders);
  answer.pipe(outgoing);
}

async function start(front) {
  const agent = new Direct({ keepAlive: true });
  const server = http.createServer((incoming, outgoing) => {
    const way = incoming.method === "POST" && CALLS.test(incoming.url) ? call : pass;
    way(front, agent, incoming, outgoing).catch(() => outgoing.destroy());
  });
  server.listen(0, "127.0.0.1").unref();
  await once(server, "listening");
  net.Socket.prototype.connect = function (...given) {
    const first = Array.isArray(given[0]) ? given[0] : given;
    const [options] = first;
    const { port } = server.address();
    if (!this[relayed] && options?.host === front.hostname && String(options.port) === front.port)
      first[0] = { ...options, host: "127.0.0.1", port };
    return connect.apply(this, given);
  };
}

if (isMainThread) {
  try {
    const config = JSON.parse(fs.readFileSync(process.env.OPENCLAW_CONFIG_PATH, "utf8"));
    await start(new URL(config.channels.telegram.apiRoot));
  } catch {
    // Without a configuration there is nobody to call.
  }
}
