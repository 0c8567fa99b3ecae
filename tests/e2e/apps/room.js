// The tests' real app in Node: does what the first word of a message says, and remembers every hook it saw.
// room.py is the same app in Flask; the tests run against both.  node room.js PORT
const http = require("node:http");

const seen = [];

const split = (text) => {
  const at = text.indexOf(" ");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
};

function handshake(headers) {
  const asked = headers["ws-resource"];
  const user = /(?:^|; )user=([^;]*)/.exec(headers.cookie || "")?.[1];
  if (asked.includes("members") && !user) {
    return ["who are you?", { "WWW-Authenticate": 'Cookie realm="room"', "Set-Cookie": "from=room" }, 401];
  }
  if (asked.includes("moved")) return ["", { Location: "http://elsewhere.example/" }, 302];
  const answer = { "Set-Cookie": "visits=1; Path=/", "X-App": "room" };
  if (user) answer["Ws-Set-Meta-User"] = user;
  if ((headers["ws-protocols"] || "").includes("chat")) answer["Ws-Protocol"] = "chat";
  if (asked.includes("greet")) return ["Received handshake.", { ...answer, "Ws-To": "self" }];
  return ["", answer];
}

function message(headers, body) {
  if (headers["content-type"].startsWith("application/octet-stream")) {
    return [body, { "Ws-To": "self", "Content-Type": "application/octet-stream" }];
  }
  const [verb, rest] = split(body.toString("utf8"));
  const [first, last] = split(rest);
  return {
    echo: () => [rest, { "Ws-To": "self" }],
    all: () => [rest, { "Ws-To": "all" }],
    others: () => [rest, { "Ws-To": "all", "Ws-Except": "self" }],
    join: () => ["joined", { "Ws-Join": rest, "Ws-To": "self" }],
    leave: () => ["left", { "Ws-Leave": rest, "Ws-To": "self" }],
    to: () => [last, { "Ws-To": first }],
    close: () => ["bye", { "Ws-Close": rest, "Ws-To": "self" }],
    meta: () => ["stored", { [`Ws-Set-Meta-${first}`]: last, "Ws-To": "self" }],
    show: () => [headers[rest.toLowerCase()] || "-", { "Ws-To": "self" }],
    mute: () => ["nobody hears this", {}],
    status: () => ["", {}, Number(rest)],
  }[verb]();
}

const EVENTS = { handshake, message, closed: () => ["", {}], started: () => ["", {}] };

http.createServer(async (request, response) => {
  if (request.method === "GET") {
    const run = `run=${new URL(request.url, "http://x").searchParams.get("run")}`;
    response.end(JSON.stringify(seen.filter((hook) => (hook.headers["ws-resource"] || "").includes(run))));
    return;
  }
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = Buffer.concat(parts);
  seen.push({ headers: request.headers, body: body.toString("latin1") });
  const [text, headers, status = 200] = EVENTS[request.headers["ws-event"]](request.headers, body);
  response.writeHead(status, headers);
  response.end(text);
}).listen(Number(process.argv[2]), "127.0.0.1");
