//! Where a route's hooks go, and what of a client's handshake goes with every one of them. Rendered once a socket, so
//! that a message costs a copy. Knows no dialect: only the URL and the headers that all HTTP dialects carry.

use crate::command::{RouteId, SocketId};
use crate::config::{Hooks, Route, Scheme};
use crate::handler::Connecting;
use crate::hook::dialect::Targets;
use crate::hook::docroot::Docroot;
use crate::hook::fastcgi::{Script, decoded};
use crate::hook::signature::Signer;
use crate::process::Process;
use std::sync::Arc;
use ws_proto::Version;

/// A route with its app, prepared.
pub(crate) struct Endpoint {
    /// The route.
    pub(crate) route: RouteId,
    /// How its hooks are sent.
    pub(crate) hooks: Arc<Hooks>,
    /// Whom the answer to a message is for that does not say.
    pub(crate) answer_to: Targets,
    /// What signs them.
    pub(crate) signer: Signer,
    /// Bytes of a group's name.
    pub(crate) max_group_name: usize,
    /// Bytes of what the app stores for a socket.
    pub(crate) max_meta: usize,
    /// This life's name.
    pub(crate) boot: String,
    prefix: Arc<str>,
    pieces: Vec<Piece>,
    has_query: bool,
    /// FastCGI: where scripts are.
    script: Option<Folder>,
    /// The rest of the first line, `Host`, `Ws-Worker`, `Ws-Boot`: the same on every hook.
    constant: Vec<u8>,
}

/// FastCGI: the folder of the script that is run, or of all that are.
struct Folder {
    root: String,
    /// How many pieces of the template name the script.
    pieces: usize,
    /// Clients choose the script.
    docroot: Option<Docroot>,
}

/// A part of the URL's template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// As it stands in a request's first line.
    Text(Vec<u8>),
    Event,
    Path,
}

/// What a handshake says, as far as hooks need it.
pub(crate) struct Facts<'a> {
    pub(crate) id: SocketId,
    pub(crate) version: Version,
    /// Path and query as they came.
    pub(crate) resource: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) location: &'a str,
    pub(crate) origin: Option<&'a str>,
    pub(crate) peer: &'a str,
    pub(crate) protocols: Vec<&'a str>,
    pub(crate) headers: Vec<(&'a str, &'a [u8])>,
    /// Whether the proxy's own headers are believed.
    pub(crate) trusted: bool,
}

impl<'a> Facts<'a> {
    /// Takes them from a handshake.
    pub(crate) fn of(request: &'a Connecting<'_>) -> Self {
        Self {
            id: request.id(),
            version: request.version(),
            resource: request.target(),
            path: request.path(),
            query: request.query(),
            location: request.location(),
            origin: request.origin(),
            peer: request.peer(),
            protocols: request.protocols().collect(),
            headers: request.headers().collect(),
            trusted: request.is_from_trusted_proxy(),
        }
    }
}

/// What every hook of one socket carries, in one piece of heap: path, query, header lines.
#[derive(Debug, Default)]
pub(crate) struct Block {
    text: Arc<[u8]>,
    path: u32,
    query: u32,
    /// The subprotocol and what the app stored: header lines again, which may change.
    changing: Vec<u8>,
}

/// Why a client's path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPath {
    /// It climbs out of the app's.
    Climbs,
    /// No script answers there.
    Missing,
}

/// The first header line of a block; the id behind it is found by its place.
const SUBJECT: &[u8] = b"Ws-Socket: ";
/// Characters of a socket id.
const ID: usize = 32;

impl Endpoint {
    /// Prepares a route's hooks.
    pub(crate) fn new(process: &Process, route: &Route, hooks: &Arc<Hooks>) -> Self {
        let mut constant = b" HTTP/1.1\r\n".to_vec();
        let host = match hooks.url.scheme {
            Scheme::Http | Scheme::Https => &hooks.url.host,
            Scheme::FastCgi => hooks.server_name.as_ref().unwrap_or(&hooks.url.host),
        };
        push_header(&mut constant, "Host", host.as_bytes());
        let (script, pieces) = template(hooks, process);
        push_header(&mut constant, "Ws-Worker", process.config.worker.as_bytes());
        push_header(&mut constant, "Ws-Boot", process.boot.as_bytes());
        Self {
            route: route.id,
            hooks: Arc::clone(hooks),
            answer_to: Targets::of(&hooks.answer_to),
            signer: Signer::new(&hooks.secrets),
            max_group_name: route.max_group_name,
            max_meta: route.max_meta,
            boot: process.boot.clone(),
            prefix: route.path.as_str().into(),
            pieces,
            has_query: hooks.url.path.contains('?'),
            script,
            constant,
        }
    }

    /// Returns whether the hooks of a socket whose handshake was told to `old` can be told here: what was rendered of its path
    /// then is what is wanted of it now.
    pub(crate) fn can_follow(&self, old: &Self) -> bool {
        let uses_path = |endpoint: &Self| endpoint.pieces.contains(&Piece::Path);
        self.hooks.docroot == old.hooks.docroot && (uses_path(old) || !uses_path(self))
    }

    /// Appends request line and common header lines.
    pub(crate) fn push_head(&self, event: &str, block: &Block, out: &mut Vec<u8>) {
        out.extend_from_slice(b"POST ");
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Event => out.extend_from_slice(event.as_bytes()),
                Piece::Path => out.extend_from_slice(block.path()),
            }
        }
        if let Some(query) = block.query() {
            out.push(if self.has_query { b'&' } else { b'?' });
            out.extend_from_slice(query);
        }
        out.extend_from_slice(&self.constant);
        out.extend_from_slice(block.lines());
        out.extend_from_slice(&block.changing);
    }

    /// Returns the script that an event is for, if the app speaks FastCGI.
    pub(crate) fn script(&self, event: &str, block: &Block) -> Option<Script<'_>> {
        let folder = self.script.as_ref()?;
        let pieces = self.pieces.iter().take(folder.pieces);
        let name = pieces.map(|piece| match piece {
            Piece::Text(text) => text.len(),
            Piece::Event => event.len(),
            Piece::Path => block.path().len(),
        });
        Some(Script {
            root: &folder.root,
            name: name.sum(),
            keep: self.hooks.keep,
        })
    }

    /// Returns the route's path.
    pub(crate) fn path(&self) -> &Arc<str> {
        &self.prefix
    }

    /// What follows the route's prefix, without its leading slash.
    fn below<'a>(&self, path: &'a str) -> &'a str {
        let rest = path
            .strip_prefix(self.prefix.trim_end_matches('/'))
            .unwrap_or(path);
        rest.strip_prefix('/').unwrap_or(rest)
    }
}

impl Block {
    /// Renders what a handshake says.
    ///
    /// # Errors
    /// The client's fault: its path has a `..` in it and the template uses the path, or no script answers there.
    pub(crate) fn new(endpoint: &Endpoint, facts: &Facts<'_>) -> Result<Self, NoPath> {
        let mut text = Vec::with_capacity(512);
        let folder = endpoint.script.as_ref();
        if let Some(docroot) = folder.and_then(|folder| folder.docroot.as_ref()) {
            let name = docroot.find(endpoint.below(facts.path));
            push_name(&mut text, name.ok_or(NoPath::Missing)?.as_bytes());
        } else if endpoint.pieces.contains(&Piece::Path) {
            if climbs(facts.path) {
                return Err(NoPath::Climbs);
            }
            push_target(&mut text, endpoint.below(facts.path).as_bytes());
        }
        let path = text.len();
        if let Some(query) = facts.query {
            text.push(b'?'); // Told apart from no query at all; not sent from here.
            push_target(&mut text, query.as_bytes());
        }
        let query = text.len();
        text.extend_from_slice(SUBJECT);
        text.extend_from_slice(facts.id.to_string().as_bytes());
        text.extend_from_slice(b"\r\n");
        push_header(&mut text, "Ws-Version", facts.version.name().as_bytes());
        push_header(&mut text, "Ws-Resource", facts.resource.as_bytes());
        push_header(&mut text, "Ws-Location", facts.location.as_bytes());
        if let Some(origin) = facts.origin {
            push_header(&mut text, "Ws-Origin", origin.as_bytes());
        }
        push_header(&mut text, "Ws-Peer", facts.peer.as_bytes());
        push_forwarded(&mut text, endpoint, facts);
        push_request_id(&mut text, endpoint, facts);
        Ok(Self {
            text: text.into(),
            path: u32::try_from(path).unwrap_or(u32::MAX),
            query: u32::try_from(query).unwrap_or(u32::MAX),
            changing: Vec::new(),
        })
    }

    /// Puts one together again from its parts.
    pub(crate) fn of(text: Arc<[u8]>, path: u32, query: u32, lines: &[u8]) -> Self {
        Self {
            text,
            path,
            query,
            changing: lines.to_vec(),
        }
    }

    /// Returns what never changes: the text, and where in it path and query end.
    pub(crate) fn parts(&self) -> (&Arc<[u8]>, u32, u32) {
        (&self.text, self.path, self.query)
    }

    /// Returns the subprotocol and what the app stored, as header lines.
    pub(crate) fn changing(&self) -> &[u8] {
        &self.changing
    }

    /// Renders the subprotocol and what the app stored.
    pub(crate) fn change(&mut self, protocol: Option<&str>, meta: &[(Arc<str>, Arc<str>)]) {
        self.changing.clear();
        if let Some(protocol) = protocol {
            push_header(&mut self.changing, "Ws-Protocol", protocol.as_bytes());
        }
        for (name, value) in meta {
            push_named(
                &mut self.changing,
                &["Ws-Meta-", name],
                &[value.as_bytes()],
                b"",
            );
        }
        self.changing.shrink_to_fit();
    }

    /// Returns the socket's id as text; empty where there is no socket.
    pub(crate) fn id(&self) -> &[u8] {
        self.lines()
            .get(SUBJECT.len()..SUBJECT.len() + ID)
            .unwrap_or_default()
    }

    /// Returns the client's origin, if it named one.
    pub(crate) fn origin(&self) -> Option<&[u8]> {
        let mut lines = self.lines().split(|byte| *byte == b'\n');
        let line = lines.find_map(|line| line.strip_prefix(b"Ws-Origin: "))?;
        Some(line.trim_ascii())
    }

    /// Returns how many bytes of heap it holds.
    pub(crate) fn memory(&self) -> usize {
        self.text.len() + self.changing.capacity()
    }

    fn path(&self) -> &[u8] {
        self.text.get(..self.path as usize).unwrap_or_default()
    }

    fn query(&self) -> Option<&[u8]> {
        self.text.get(self.path as usize + 1..self.query as usize)
    }

    fn lines(&self) -> &[u8] {
        self.text.get(self.query as usize..).unwrap_or_default()
    }
}

/// Takes a URL's path apart; of FastCGI's, what names the script and what follows it.
fn template(hooks: &Hooks, process: &Process) -> (Option<Folder>, Vec<Piece>) {
    if hooks.url.scheme != Scheme::FastCgi {
        return (None, pieces(&hooks.url.path));
    }
    if let Some(docroot) = &hooks.docroot {
        let folder = Folder {
            root: docroot.root.to_string_lossy().into_owned(),
            pieces: 1,
            docroot: Some(Docroot::new(docroot, process.clock)),
        };
        return (Some(folder), vec![Piece::Path]);
    }
    let (script, rest) = hooks.url.script();
    let (root, name) = script.split_at(script.rfind('/').unwrap_or(0));
    let mut all = pieces(name);
    let folder = Folder {
        root: String::from_utf8_lossy(&decoded(root.as_bytes())).into_owned(),
        pieces: all.len(),
        docroot: None,
    };
    all.extend(pieces(rest));
    (Some(folder), all)
}

fn text(part: &str) -> Piece {
    let mut target = Vec::new();
    push_target(&mut target, part.as_bytes());
    Piece::Text(target)
}

/// Cuts a template at its place holders, which stand for something in the path only.
fn pieces(template: &str) -> Vec<Piece> {
    let (path, query) = match template.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (template, None),
    };
    let mut pieces = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let next = [("{event}", Piece::Event), ("{path}", Piece::Path)]
            .into_iter()
            .filter_map(|(name, piece)| Some((rest.find(name)?, name, piece)))
            .min_by_key(|(at, ..)| *at);
        let Some((before, name, piece)) = next.and_then(|(at, name, piece)| {
            let (before, after) = rest.split_at_checked(at)?;
            rest = after.strip_prefix(name)?;
            Some((before, name, piece))
        }) else {
            pieces.push(text(rest));
            break;
        };
        let _ = name;
        if !before.is_empty() {
            pieces.push(text(before));
        }
        pieces.push(piece);
    }
    if let Some(query) = query {
        pieces.push(text(&format!("?{query}")));
    }
    pieces
}

/// Whether some reader could find a `..` segment: encoded, with a backslash, or with a parameter behind it.
fn climbs(path: &str) -> bool {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let encoded = match (byte, rest) {
            (b'%', [b'2', b'e' | b'E', ..]) => Some(b'.'),
            (b'%', [b'2', b'f' | b'F', ..]) => Some(b'/'),
            (b'%', [b'5', b'c' | b'C', ..]) => Some(b'\\'),
            (b'%', [b'3', b'b' | b'B', ..]) => Some(b';'),
            _ => None,
        };
        if encoded.is_some() {
            rest = rest.get(2..).unwrap_or_default();
        }
        plain.push(encoded.unwrap_or(byte));
    }
    plain
        .split(|byte| matches!(byte, b'/' | b'\\'))
        .any(|segment| segment.split(|byte| *byte == b';').next() == Some(b".."))
}

/// Appends a part of a request target; what does not belong into one is percent-encoded.
fn push_target(out: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        match byte {
            b'!'..=b'~' if *byte != b'#' => out.push(*byte),
            _ => push_encoded(out, *byte),
        }
    }
}

/// Appends a file's name as part of a request target.
fn push_name(out: &mut Vec<u8>, name: &[u8]) {
    for byte in name {
        match byte {
            b'!'..=b'~' if !b"#%?".contains(byte) => out.push(*byte),
            _ => push_encoded(out, *byte),
        }
    }
}

/// Appends `%` and two digits.
pub(crate) fn push_encoded(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push(b'%');
    for half in [byte >> 4, byte & 15] {
        out.push(DIGITS.get(usize::from(half)).copied().unwrap_or(b'0'));
    }
}

/// Appends a number's digits: every hook has a few, and `fmt` costs as much as all that is copied for it.
pub(crate) fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut count = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - count..).unwrap_or_default());
}

/// Appends a header line. One whose value holds a control character is left out: there is no second meaning to guess.
pub(crate) fn push_header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    push_named(out, &[name], &[value], b"");
}

fn push_named(out: &mut Vec<u8>, name: &[&str], values: &[&[u8]], joiner: &[u8]) {
    let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if values.iter().any(|value| value.iter().any(is_control))
        || !name.iter().all(|part| part.bytes().all(is_token))
    {
        return;
    }
    for part in name {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b": ");
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            out.extend_from_slice(joiner);
        }
        out.extend_from_slice(value.trim_ascii());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the configured headers of the client's handshake; repeated ones are joined.
fn push_forwarded(out: &mut Vec<u8>, endpoint: &Endpoint, facts: &Facts<'_>) {
    let mut values: Vec<&[u8]> = Vec::new();
    for wanted in &endpoint.hooks.forward_headers {
        if !may_forward(wanted, facts) {
            continue;
        }
        values.clear();
        let mut name = wanted.as_str();
        for (found, value) in &facts.headers {
            if found.eq_ignore_ascii_case(wanted) {
                name = found;
                values.push(value);
            }
        }
        let joiner: &[u8] = if wanted.eq_ignore_ascii_case("cookie") {
            b"; "
        } else {
            b", "
        };
        if !values.is_empty() {
            push_named(out, &[name], &values, joiner);
        }
    }
}

/// Gives a handshake that came without an id one of ours, the socket's, so that hooks and the log agree.
fn push_request_id(out: &mut Vec<u8>, endpoint: &Endpoint, facts: &Facts<'_>) {
    let is_id = |name: &str| name.eq_ignore_ascii_case("x-request-id");
    let is_wanted = endpoint
        .hooks
        .forward_headers
        .iter()
        .any(|name| is_id(name));
    if is_wanted && !facts.headers.iter().any(|(name, _)| is_id(name)) {
        push_header(out, "X-Request-Id", facts.id.to_string().as_bytes());
    }
}

/// Whether a client's header may reach the app at all, whatever the configuration says.
fn may_forward(name: &str, facts: &Facts<'_>) -> bool {
    // CGI and WSGI make one name of both: `Ws_Socket` would be taken for `Ws-Socket`.
    let name = name.to_ascii_lowercase().replace('_', "-");
    let ours = [
        "ws-",
        "webhook-",
        "x-typhoonae-",
        "content-",
        "sec-websocket-",
    ];
    let never = [
        "idempotency-key",
        "proxy",
        "host",
        "expect",
        "accept-encoding",
    ];
    let of_the_proxy =
        name.starts_with("x-forwarded-") || matches!(name.as_str(), "forwarded" | "x-real-ip");
    !ours.iter().any(|prefix| name.starts_with(prefix))
        && !never.contains(&name.as_str())
        && !is_hop_by_hop(&name)
        && (facts.trusted || !of_the_proxy)
        && !facts
            .headers
            .iter()
            .any(|(header, value)| header.eq_ignore_ascii_case("connection") && names(value, &name))
}

/// Whether a header is for this connection only, by its lower-case name. [RFC 9110, 7.6.1]
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Whether a `Connection` header names this header.
pub(crate) fn names(connection: &[u8], name: &str) -> bool {
    connection
        .split(|byte| *byte == b',')
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::testing::{facts, hooks, id, process, route};

    fn endpoint(url: &str, forward: &[&str]) -> Endpoint {
        let mut hooks = hooks();
        hooks.url.path = url.to_owned();
        hooks.forward_headers = forward.iter().map(|&name| name.to_owned()).collect();
        let route = route(hooks);
        let process = process(&route, 1);
        let crate::config::Target::Hooks(hooks) = &route.target else {
            unreachable!()
        };
        Endpoint::new(&process, &route, hooks)
    }

    fn rendered(url: &str, forward: &[&str], facts: &Facts<'_>) -> String {
        let endpoint = endpoint(url, forward);
        let block = Block::new(&endpoint, facts).unwrap();
        let mut out = Vec::new();
        endpoint.push_head("message", &block, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn target(url: &str, path: &str, query: Option<&str>, expected: &str) {
        let facts = Facts {
            path,
            query,
            ..facts()
        };
        let text = rendered(url, &[], &facts);
        assert_eq!(
            text.lines().next().unwrap(),
            format!("POST {expected} HTTP/1.1")
        );
    }

    #[test]
    fn event_path_and_query_reach_the_url() {
        target("/ws", "/chat/a", None, "/ws");
        target("/ws/{event}/{path}", "/chat/a/b", None, "/ws/message/a/b");
        target("/ws/{path}", "/chat", Some("x=1"), "/ws/?x=1");
        target("/ws?key=v", "/chat", Some("x=%20"), "/ws?key=v&x=%20");
        target("/ws", "/chat", Some(""), "/ws?");
        target("/{path}/{path}", "/chat/{event}", None, "/{event}/{event}");
        target("/ws?{path}", "/chat/x&y", None, "/ws?{path}");
        target("/{path}", "/chat/%41 b\u{e4}#", None, "/%41%20b%C3%A4%23");
    }

    #[test]
    fn a_socket_follows_its_app_where_what_was_rendered_of_its_path_is_enough() {
        let (plain, other, with_path) = ("/ws", "/else/{event}", "/ws/{path}");
        let can = |old: &str, new: &str| endpoint(new, &[]).can_follow(&endpoint(old, &[]));
        assert!(can(plain, other) && can(other, plain) && can(with_path, with_path));
        assert!(can(with_path, plain));
        assert!(!can(plain, with_path), "the path was not rendered");
    }

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for number in [0, 7, 10, 99, 100, 65_535, u64::from(u32::MAX), u64::MAX] {
            let mut out = b"x".to_vec();
            push_decimal(&mut out, number);
            assert_eq!(out, format!("x{number}").into_bytes());
        }
    }

    #[test]
    fn a_path_cannot_climb() {
        let endpoint = endpoint("/ws/{path}", &[]);
        for path in [
            "/chat/..",
            "/chat/../x",
            "/chat/a/%2e%2E/b",
            "/chat/.%2e",
            "/chat/a%2f..%2Fb",
            "/chat/a%5c..%5cb",
            "/chat/..;x=1/b",
            "/chat/..%3bx/b",
        ] {
            let facts = Facts { path, ..facts() };
            assert!(Block::new(&endpoint, &facts).is_err(), "{path}");
        }
        for path in ["/chat/...", "/chat/a..b", "/chat/..a", "/chat/%252e%252e"] {
            let facts = Facts { path, ..facts() };
            assert!(Block::new(&endpoint, &facts).is_ok(), "{path}");
        }
    }

    #[test]
    fn common_headers_are_rendered_exactly() {
        let id = id(7);
        let facts = Facts {
            id,
            origin: Some("https://www.example.org"),
            headers: vec![
                ("Cookie", b"a=1"),
                ("X-Request-Id", b"r1"),
                ("cookie", b"b=2"),
                ("Accept-Language", b"de"),
                ("accept-language", b"en"),
            ],
            ..facts()
        };
        let mut expected = String::from(
            "POST /ws HTTP/1.1\r\nHost: app.example\r\nWs-Worker: web1\r\nWs-Boot: BOOT\r\n",
        );
        expected += &format!("Ws-Socket: {id}\r\n");
        expected += "Ws-Version: rfc6455\r\nWs-Resource: /chat/room?x=1\r\nWs-Location: ws://www.example.org/chat/room?x=1\r\n";
        expected += "Ws-Origin: https://www.example.org\r\nWs-Peer: tcp:192.0.2.1:4711\r\n";
        expected += "cookie: a=1; b=2\r\naccept-language: de, en\r\n";
        let facts = Facts {
            query: None,
            ..facts
        };
        assert_eq!(
            rendered("/ws", &["cookie", "accept-language"], &facts),
            expected
        );
    }

    #[test]
    fn what_is_ours_the_hops_or_the_proxys_is_never_forwarded() {
        let names = [
            "Ws-Socket",
            "Ws_Socket",
            "Webhook-Id",
            "X-TyphoonAE-WebSocket",
            "Idempotency-Key",
            "Proxy",
            "X-Forwarded-For",
            "X_Forwarded_Host",
            "Forwarded",
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Upgrade",
            "X-Named",
            "Expect",
            "Host",
        ];
        let mut headers: Vec<(&str, &[u8])> =
            names.iter().map(|name| (*name, &b"evil"[..])).collect();
        headers.push(("connection", b"upgrade, x-named"));
        let lower: Vec<_> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let lower: Vec<_> = lower.iter().map(String::as_str).collect();
        let mut facts = Facts { headers, ..facts() };
        assert!(!rendered("/ws", &lower, &facts).contains("evil"));
        facts.trusted = true;
        let text = rendered("/ws", &lower, &facts);
        assert_eq!(text.matches("evil").count(), 3);
        assert!(text.contains("X-Forwarded-For: evil\r\n"));
    }

    #[test]
    fn a_control_character_takes_its_header_with_it() {
        let facts = Facts {
            origin: Some("x\r\nWs-Socket: stolen"),
            peer: "a\0b",
            headers: vec![("cookie", b"a=1\nb=2")],
            ..facts()
        };
        let text = rendered("/ws", &["cookie"], &facts);
        assert!(!text.contains("stolen") && !text.contains("Ws-Peer") && !text.contains("a=1"));
    }
}
