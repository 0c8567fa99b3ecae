"""An app as the guide of 2010 taught it: webapp's handlers, WebOb's requests, TyphoonAE's module. Only the import of webapp is
missing, which was App Engine's: what it did stands here, in a few lines.  python guide.py PORT
"""

import base64
import re
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import webob
from typhoonae import websocket


class RequestHandler:
    def __init__(self, request, response):
        self.request, self.response = request, response


class WSGIApplication:
    def __init__(self, url_mapping):
        self.url_mapping = [(re.compile(f"^{pattern}$"), handler) for pattern, handler in url_mapping]

    def __call__(self, environ, start_response):
        request, response = webob.Request(environ), webob.Response()
        for pattern, handler in self.url_mapping:
            if match := pattern.match(request.path):
                # As webapp did: the groups of the path are the handler's arguments.
                getattr(handler(request, response), request.method.lower())(*match.groups())
                return response(environ, start_response)
        response.status = 404
        return response(environ, start_response)


# -- from here on as in the guide

SOCKETS = []


class MainPage(RequestHandler):
    def get(self):
        self.response.text = websocket.create_websocket_url(self.request.GET.get('path', ''))


class HandshakeHandler(RequestHandler):
    def post(self, path):
        message = websocket.Message(self.request.POST)
        SOCKETS.append(message.socket)
        websocket.send_message([message.socket], 'Received handshake.')


class MessageHandler(RequestHandler):
    def post(self, path):
        message = websocket.Message(self.request.POST)
        websocket.send_message([message.socket], 'Received: "%s"' % message.body)


class CommandHandler(MessageHandler):
    def post(self, path):
        message = websocket.Message(self.request.POST)
        if message.body == 'where':
            websocket.send_message([message.socket], '%s?%s' % (path, self.request.query_string))
        elif message.body == 'list':
            websocket.send_message(SOCKETS, 'To everybody on the list.')
        else:
            MessageHandler.post(self, path)


class ClosedHandler(RequestHandler):
    def post(self, path):
        message = websocket.Message(self.request.POST)
        SOCKETS.remove(message.socket)
        user = base64.urlsafe_b64decode(path).decode() if re.match('^[A-Za-z0-9_-]{4,}=*$', path) else 'Somebody'
        websocket.broadcast_message('%s has left the building' % user)


application = WSGIApplication([
    ('/', MainPage),
    ('/_ah/websocket/handshake/(.*)', HandshakeHandler),
    ('/_ah/websocket/message/(.*)', CommandHandler),
    ('/_ah/websocket/closed/(.*)', ClosedHandler),
])


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


if __name__ == '__main__':
    make_server('127.0.0.1', int(sys.argv[1]), application, Server, WSGIRequestHandler).serve_forever()
