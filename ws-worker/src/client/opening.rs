//! A client before it is open: the PROXY head where one is due, the handshake, who is really behind the proxy, the route
//! and its handler's decision. Knows no socket; the client feeds it.

use super::ending::Closing;
use crate::command::{Action, RouteId, Sent, SocketId};
use crate::config::{Config, Target, origin_allowed};
use crate::ends::{self, About};
use crate::forwarded::{Forwarded, Peer, forwarded};
use crate::handler::{Accept, Connecting, Decision, Handler};
use crate::process::Process;
use crate::proxy_protocol::{self, Parsed, Proxied};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use ws_proto::{
    Answer, Connection, Handshake, HeadLimits, Headers, Input, Instant, Limits, Output, Ready,
    Refusal, Rejection, SendError,
};

/// What the app has said of a socket, or we at its end: on the heap, only where there is something.
#[derive(Debug, Default)]
pub(crate) struct Cold {
    /// Who began to close, and with what words, if it was us.
    pub(super) closing: Option<Box<Closing>>,
    /// Names and places.
    pub(crate) groups: Vec<(Arc<str>, u32)>,
    pub(crate) meta: Vec<(Arc<str>, Arc<str>)>,
}

/// What bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More are needed.
    More,
    /// The request is whole and valid.
    Request,
    /// Hixie-76's eight bytes came: open.
    Open,
    /// It cannot become a WebSocket.
    Refused(Refusal),
}

/// A client before it is open.
#[derive(Debug)]
pub(crate) struct Opening {
    handshake: Handshake,
    peer: Peer,
    /// The PROXY head as far as it came, while one is due.
    proxy_head: Option<Vec<u8>>,
    /// What the PROXY head said.
    proxied: Option<Proxied>,
    forwarded: Option<Forwarded>,
    protocol: Option<String>,
    stage: Stage,
    /// The decision came, or is to come, as a command.
    late: bool,
    /// The handler was asked, and has to hear if nothing comes of it.
    asked: bool,
    /// It is counted among the handshakes in flight.
    counted: bool,
    /// The loop has it in its list of them.
    listed: bool,
    /// The head is whole: what remains is up to the handler, or hixie-76's eight bytes.
    answered: bool,
    route: RouteId,
    /// What the app wants done to the socket once it is open: it knows the id since it was asked.
    kept: Vec<Action>,
    kept_bytes: usize,
}

/// Commands that are kept for a socket that is not open yet.
const KEPT: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Receiving,
    Deciding,
}

impl Opening {
    pub(crate) fn new(now: Instant, peer: Peer, proxy_protocol: bool, config: &Config) -> Self {
        Self {
            handshake: Handshake::new(now, &config.head),
            peer,
            proxy_head: proxy_protocol.then(Vec::new),
            proxied: None,
            forwarded: None,
            protocol: None,
            stage: Stage::Receiving,
            late: false,
            asked: false,
            counted: false,
            listed: false,
            answered: false,
            route: RouteId(0),
            kept: Vec::new(),
            kept_bytes: 0,
        }
    }

    /// Takes bytes up to the next step.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        limits: &HeadLimits,
        input: &mut Input<'_>,
        out: &mut Output,
    ) -> Step {
        if !self.take_proxy_head(input) {
            // Whoever speaks without the PROXY head that is required is no proxy of ours: nothing is said.
            return Step::Refused(Refusal::Silent);
        }
        if self.proxy_head.is_some() || input.is_empty() {
            return Step::More;
        }
        match self.handshake.receive(now, limits, input, out) {
            Ok(None) => Step::More,
            Ok(Some(Ready::Request)) => Step::Request,
            Ok(Some(Ready::Open)) => Step::Open,
            Err(refusal) => Step::Refused(refusal),
        }
    }

    /// Takes the PROXY head if one is due. False: it is none.
    fn take_proxy_head(&mut self, input: &mut Input<'_>) -> bool {
        let Some(head) = &mut self.proxy_head else {
            return true;
        };
        let before = head.len();
        head.extend_from_slice(input.as_slice());
        match proxy_protocol::parse(head) {
            Parsed::Partial => {
                input.take(usize::MAX);
                true
            }
            Parsed::Done { consumed, proxied } => {
                input.take(consumed.saturating_sub(before));
                self.proxied = Some(proxied);
                self.proxy_head = None;
                true
            }
            Parsed::Invalid => false,
        }
    }

    /// Finds the route, checks what the configuration says of it, and asks its handler. The address that is counted is in
    /// `counted_peer` before that: the handler may panic.
    pub(crate) fn ask(
        &mut self,
        process: &Process,
        id: SocketId,
        handlers: &mut [Box<dyn Handler>],
        counted_peer: &mut Option<Box<IpAddr>>,
    ) -> Result<(Decision, RouteId), Refusal> {
        self.answered = true;
        let config = &process.config;
        let request = self.handshake.request().ok_or(Refusal::NotWebSocket)?;
        if process.is_short_of_memory() {
            process.turned_away.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::Unavailable);
        }
        let route = config.route_for(request.path()).ok_or(Refusal::NotFound)?;
        if matches!(route.target, Target::Page(_)) && route.path != request.path() {
            return Err(Refusal::NotFound);
        }
        if !route.versions.contains(request.version()) {
            return Err(Refusal::Version(route.versions));
        }
        if let Some(allowed) = &route.allowed_origins
            && !origin_allowed(allowed, request.origin())
        {
            return Err(Refusal::Origin);
        }
        let forwarded = forwarded(
            self.peer,
            self.proxied,
            &config.trusted_proxies,
            request.headers(),
        );
        if let (Some(limit), Some(address)) = (config.bounds.max_per_peer, forwarded.address) {
            if !process.count_peer(address, limit) {
                return Err(Refusal::Unavailable);
            }
            *counted_peer = Some(Box::new(address));
        }
        let connecting = Connecting {
            request,
            id,
            forwarded: &forwarded,
            location: OnceLock::new(),
        };
        let handler = handlers
            .get_mut(usize::from(route.id.0))
            .ok_or(Refusal::NotFound)?;
        let decision = handler.on_connect(&connecting);
        self.asked = true;
        self.route = route.id;
        self.forwarded = Some(forwarded);
        Ok((decision, route.id))
    }

    /// Answers 101; true if it is open already. `has_context` says that there is room for context takeover.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        accept: Accept,
        limits: Arc<Limits>,
        has_context: bool,
        out: &mut Output,
    ) -> Result<bool, SendError> {
        let forwarded = self.forwarded.as_mut();
        let answer = Answer {
            protocol: accept.protocol,
            headers: accept.headers,
            secure: forwarded.as_ref().is_some_and(|forwarded| forwarded.secure),
            host: forwarded.and_then(|forwarded| forwarded.host.take()),
            deflate_takeover: has_context,
        };
        self.handshake.accept(now, &answer, limits, out)?;
        self.protocol = answer.protocol;
        Ok(self.handshake.is_open())
    }

    /// Refuses; `dice` spread the herd that is told to come back.
    pub(crate) fn refuse(
        &mut self,
        refusal: Refusal,
        retry_after: Option<u32>,
        dice: u8,
        out: &mut Output,
    ) {
        let jittered = (refusal == Refusal::Unavailable).then_some(1 + u32::from(dice % 5));
        let retry_after = retry_after.or(jittered);
        self.handshake.refuse(refusal, retry_after, out);
    }

    pub(crate) fn reject(&mut self, rejection: &Rejection, out: &mut Output) {
        self.handshake.reject(rejection, out);
    }

    /// Answers a browser that asks without a WebSocket: the demo's page, or that there is nothing. False: neither.
    pub(crate) fn serve_page(
        &mut self,
        refusal: Refusal,
        config: &Config,
        out: &mut Output,
    ) -> bool {
        if refusal != Refusal::NotWebSocket {
            return false;
        }
        let Some(head) = self.handshake.head() else {
            return false;
        };
        let route = config.route_for(head.path());
        let page = match route.map(|route| &route.target) {
            Some(Target::Page(page)) if route.is_some_and(|route| route.path == head.path()) => {
                page
            }
            Some(Target::Page(_)) | None => {
                self.handshake.refuse(Refusal::NotFound, None, out);
                return true;
            }
            Some(_) => return false,
        };
        if !matches!(head.method(), "GET" | "HEAD") {
            return false;
        }
        let mut headers = Headers::default();
        for (name, value) in [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Cache-Control", "no-cache"),
            ("X-Content-Type-Options", "nosniff"),
            (
                "Content-Security-Policy",
                "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'",
            ),
        ] {
            // The values stand above and hold no control character.
            let _ = headers.add(name, value);
        }
        self.handshake.reject(
            &Rejection {
                status: 200,
                headers,
                body: page.as_bytes().to_vec(),
            },
            out,
        );
        true
    }

    /// Becomes the connection, and what is kept of the request where somebody may ask for it.
    pub(crate) fn into_connection(
        mut self: Box<Self>,
        now: Instant,
        process: &Process,
    ) -> (Option<Connection>, About) {
        self.uncount(process);
        let keeps = ends::are_logged()
            || process.config.control.is_some()
            || matches!(
                process
                    .config
                    .routes
                    .get(usize::from(self.route.0))
                    .map(|route| &route.target),
                Some(Target::Hooks(_))
            );
        let about = if keeps {
            self.about()
        } else {
            About::default()
        };
        (self.handshake.into_connection(now), about)
    }

    /// Keeps what is known of the client.
    pub(crate) fn about(&self) -> About {
        let request = self.handshake.request();
        let peer = self.forwarded.as_ref();
        About::new([
            peer.map(|forwarded| forwarded.peer.as_str()),
            request.map(|request| request.target()),
            request.and_then(|request| request.origin()),
            self.protocol.as_deref(),
            request.and_then(|request| request.header("x-request-id")),
        ])
    }

    /// Counts it among the handshakes in flight, from its first byte on.
    pub(crate) fn count(&mut self, process: &Process) {
        if !self.counted {
            self.counted = true;
            process.counters.handshakes.add(1);
        }
    }

    /// Returns once, when it is counted, that it is to be listed among those in flight.
    pub(crate) fn list(&mut self) -> bool {
        self.counted && !std::mem::replace(&mut self.listed, true)
    }

    /// It is in flight no more.
    pub(crate) fn uncount(&mut self, process: &Process) {
        if self.counted {
            self.counted = false;
            process.counters.handshakes.subtract(1);
        }
    }

    /// Keeps a command until the socket is open. `None`: nobody was told its id, or nothing will come of it any more.
    pub(crate) fn keep(&mut self, action: Action, bytes: usize, limit: usize) -> Option<Sent> {
        let version = self.handshake.request().filter(|_| self.asked)?.version();
        let is_binary = matches!(&action, Action::Send(_, shared) if shared.message().is_binary())
            || matches!(&action, Action::Say(_, message) if message.is_binary());
        if is_binary && !version.has_binary() {
            return Some(Sent::Unsupported);
        }
        if self.kept.len() >= KEPT || self.kept_bytes >= limit {
            return Some(Sent::Full);
        }
        self.kept_bytes += bytes;
        self.kept.push(action);
        Some(Sent::Queued)
    }

    /// Takes what was kept.
    pub(crate) fn take_kept(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.kept)
    }

    pub(crate) fn is_deciding(&self) -> bool {
        self.stage == Stage::Deciding
    }

    pub(crate) fn wait_for_decision(&mut self) {
        self.stage = Stage::Deciding;
        self.late = true;
    }

    pub(crate) fn was_decided_late(&self) -> bool {
        self.late
    }

    pub(crate) fn decided(&mut self) {
        self.stage = Stage::Receiving;
    }

    /// Its head is not whole yet: it may be refused for want of room.
    pub(crate) fn is_evictable(&self) -> bool {
        !self.answered
    }

    pub(crate) fn was_asked(&self) -> bool {
        self.asked
    }

    /// The handler knows that nothing came of it.
    pub(crate) fn forget_asking(&mut self) {
        self.asked = false;
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Refusal> {
        self.handshake.handle_timeout(now)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.handshake.poll_timeout()
    }

    pub(crate) fn memory(&self) -> usize {
        self.handshake.memory()
            + self.kept_bytes
            + self.proxy_head.as_ref().map_or(0, Vec::capacity)
    }
}
