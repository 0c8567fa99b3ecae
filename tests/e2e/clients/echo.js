// npm's ws as a client of an echo: node echo.js MODULE URL PROTOCOL_VERSION
// Says each text, waits for it to come back, closes, and prints "echoed N" when all was well. MODULE may be ws 8, 1 or 0.4,
// of which the last two speak version 8 as well.
const [name, url, version] = process.argv.slice(2);
const library = require(name);
const WebSocket = library.WebSocket || library;

const texts = ["hello", "こんにちは 😀", "x".repeat(125), "x".repeat(126), "y".repeat(70000)];
for (let n = 0; n < 100; n++) texts.push(`message ${n}`);

const fail = (why) => {
  console.error(why);
  process.exit(1);
};
setTimeout(() => fail("nothing came"), 10000).unref();

let at = 0;
let ponged = false;
const socket = new WebSocket(url, { protocolVersion: Number(version), origin: "http://example.org" });
socket.on("open", () => {
  socket.ping("beat");
  socket.send(texts[0]);
});
socket.on("pong", () => { ponged = true; });
socket.on("error", (error) => fail(error));
socket.on("message", (data) => {
  if (data.toString() !== texts[at]) fail(`came back otherwise: ${data.toString().slice(0, 80)}`);
  at += 1;
  if (at < texts.length) socket.send(texts[at]);
  else socket.close(1000, "done");
});
socket.on("close", (code) => {
  if (!ponged) fail("no pong");
  if (at < texts.length || code !== 1000) fail(`closed after ${at} with ${code}`);
  console.log(`echoed ${at}`);
  process.exit(0);
});
