//! A hook's two ways as bytes, for `benches/inside.rs`: event → request, answer → what is wanted. Only with the feature `bench`.

use super::dialect::plain;
use super::endpoint::{Block, Endpoint, Facts};
use super::http::Incoming;
use super::{HookEvent, What};
use crate::command::{RouteId, SocketId};
use crate::config::{AppAddress, AppUrl, Config, Hooks, Route, Scheme, Target};
use crate::process::Process;
use std::sync::Arc;
use ws_proto::{Message, Version};

/// One socket of a route whose app is told in `plain`.
pub struct Hook {
    endpoint: Endpoint,
    block: Block,
    message: Message<'static>,
    incoming: Incoming,
}

impl Hook {
    /// Prepares a socket that says `text`; nothing if the app's URL is wrong.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let url = AppUrl {
            scheme: Scheme::Http,
            address: AppAddress::Tcp(Vec::new()),
            host: "app.example".into(),
            path: "/ws".into(),
        };
        let hooks = Arc::new(Hooks::new(0, url));
        let route = Route::new(RouteId(0), "/chat", Target::Hooks(Arc::clone(&hooks)));
        let process = Process::new(Arc::new(Config::default())).ok()?;
        let endpoint = Endpoint::new(&process, &route, &hooks);
        let facts = Facts {
            id: SocketId {
                boot: [1, 2, 3],
                thread: 0,
                slot: 7,
                key: [9; 16],
            },
            version: Version::Rfc6455,
            resource: "/chat/room?x=1",
            path: "/chat/room",
            query: Some("x=1"),
            location: "ws://www.example.org/chat/room?x=1",
            origin: Some("https://www.example.org"),
            peer: "tcp:192.0.2.1:4711",
            protocols: Vec::new(),
            headers: vec![("cookie", b"session=0123456789abcdef")],
            trusted: false,
        };
        let block = Block::new(&endpoint, &facts).ok()?;
        Some(Self {
            incoming: Incoming::new(hooks.max_hook_answer),
            endpoint,
            block,
            message: Message::text(text).into_owned(),
        })
    }

    /// Appends the request of a message; returns the bytes of head and body.
    pub fn encode(&self, out: &mut Vec<u8>) -> usize {
        let event = HookEvent {
            what: What::Message {
                seq: 4711,
                message: &self.message,
            },
            block: &self.block,
            attempt: 1,
            timestamp: 1_700_000_000,
        };
        let body = plain::encode(&self.endpoint, &event, out);
        out.len() + body.len()
    }

    /// Reads a whole answer; returns how many bytes it wants sent, and 0 if it makes no sense.
    pub fn decode(&mut self, bytes: &[u8]) -> usize {
        self.incoming.reset(1024 * 1024);
        let Ok(Some(whole)) = self.incoming.advance(bytes) else {
            return 0;
        };
        let answer = self.incoming.answer(bytes, &whole);
        let reply = plain::decode(&self.endpoint, &answer, true);
        reply.message.map_or(0, |message| message.payload().len())
    }
}
