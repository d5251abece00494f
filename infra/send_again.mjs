// Loaded into every Node.js of an instance before its own code. A front that is killed resets the connections whose bytes
// it had not read yet and closes the others. OpenClaw 2026.9.6 makes a call of the Bot API again at once after a close,
// and never after a reset: the reply would be lost. The front knows a repetition, so both are closes here.
import fs from "node:fs";
import net from "node:net";

const BROKEN = new Set(["ECONNRESET", "EPIPE"]);
const CLOSED = "UND_ERR_SOCKET";
const peer = Symbol("zaki.peer");
const { connect, destroy } = net.Socket.prototype;
let front;

function frontHost() {
  try {
    const config = JSON.parse(fs.readFileSync(process.env.OPENCLAW_CONFIG_PATH, "utf8"));
    front ??= new URL(config.channels.telegram.apiRoot).host;
  } catch {
    // No configuration yet: nothing of ours to speak to.
  }
  return front;
}

net.Socket.prototype.connect = function (...given) {
  const [options] = Array.isArray(given[0]) ? given[0] : given;
  if (options?.port) this[peer] = `${options.host}:${options.port}`;
  return connect.apply(this, given);
};

net.Socket.prototype.destroy = function (error, ...rest) {
  if (BROKEN.has(error?.code) && this[peer] === (front ?? frontHost())) error.code = CLOSED;
  return destroy.call(this, error, ...rest);
};
