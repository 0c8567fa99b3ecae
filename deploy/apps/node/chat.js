// A chat for `ws-worker serve --app http://127.0.0.1:8080/`:  PORT=8080 node chat.js
const http = require("node:http");

http.createServer((request, response) => {
  if (request.headers["ws-event"] !== "message") {
    request.resume();
    response.end(); // A 2xx lets the socket in; there is nothing to say when it is gone.
    return;
  }
  response.writeHead(200, { "Ws-To": "all", "Content-Type": request.headers["content-type"] });
  request.pipe(response);
}).listen(process.env.PORT || 8080, "127.0.0.1");
