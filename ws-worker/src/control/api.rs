//! The calls of the control API: request → call → commands, outcomes → answer. Pure; knows no socket, no bytes and no clock.

use super::http::{Answer, Head, Kind, Length, Method, decode};
use crate::command::{
    Action, Broadcast, ClosedBy, Counted, Found, ListQuery, MAX_PAGE_BYTES, Outcome, RouteId,
    Scope, Sent, SocketId, SocketInfo, is_group_name,
};
use crate::config::{Changes, Config, Route, Target};
use crate::metrics;
use crate::overview::{self, Overview};
use crate::process::Process;
use crate::reload::ReloadError;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use ws_proto::{CloseCode, Message};

const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;
/// Bytes of a close frame's reason. [RFC 6455, 5.5]
const MAX_REASON: usize = 123;
/// Bytes of a group's name, unless the configuration says otherwise.
const MAX_GROUP: usize = 128;

/// What is asked for.
#[derive(Debug)]
pub(super) enum Call {
    Health,
    Ready,
    Metrics,
    Status,
    /// The same for people.
    Page,
    Drain,
    Reload,
    /// One message to these sockets, no two alike.
    Send {
        ids: Vec<SocketId>,
        /// Ids that no socket of this worker can have.
        strangers: Vec<String>,
        /// Only one was asked for; the status that says that it is done.
        one: Option<u16>,
    },
    Broadcast(Scope, Option<SocketId>),
    Join(SocketId, Arc<str>),
    Leave(SocketId, Arc<str>),
    Close(SocketId, CloseCode, String),
    List(ListQuery),
    Inspect(SocketId),
}

/// Returns whether a target may be asked for without a token.
pub(super) fn is_public(target: &str) -> bool {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    matches!(path, "/healthz" | "/readyz")
}

/// Finds the call that a head asks for.
///
/// # Errors
/// The caller's fault: no such path, method or parameter.
pub(super) fn call(head: &Head, config: &Config) -> Result<Call, Answer> {
    let (path, query) = match head.target.split_once('?') {
        Some((path, query)) => (path, query),
        None => (head.target.as_str(), ""),
    };
    let segments: Vec<String> = path
        .split('/')
        .skip(1)
        .map(|segment| decode(segment, false))
        .collect::<Result<_, _>>()?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let mut query = Query::parse(query)?;
    let is_get = matches!(head.method, Method::Get | Method::Head);
    let call = match (segments.as_slice(), head.method) {
        (["healthz"], _) if is_get => Call::Health,
        (["readyz"], _) if is_get => Call::Ready,
        (["metrics"], _) if is_get => Call::Metrics,
        (["status"], _) if is_get => Call::Status,
        ([""], _) if is_get => Call::Page,
        (["drain"], Method::Post) => Call::Drain,
        (["reload"], Method::Post) => Call::Reload,
        (["drain" | "reload"], _) => return Err(not_allowed("POST")),
        (["healthz" | "readyz" | "metrics" | "status" | ""], _) => {
            return Err(not_allowed("GET, HEAD"));
        }
        (["sockets"], _) if is_get => Call::List(list(&mut query, config)?),
        (["sockets"], Method::Post) => many(&mut query)?,
        (["sockets"], _) => return Err(not_allowed("GET, HEAD, POST")),
        (["sockets", id], _) if is_get => Call::Inspect(socket(id)?),
        (["sockets", id], Method::Post) => Call::Send {
            ids: vec![socket(id)?],
            strangers: Vec::new(),
            one: Some(202),
        },
        (["message"], Method::Post) => {
            let id = head.socket.as_deref().unwrap_or_default();
            Call::Send {
                ids: vec![socket(id)?],
                strangers: Vec::new(),
                one: Some(200),
            }
        }
        (["message"], _) => return Err(not_allowed("POST")),
        (["sockets", id], Method::Delete) => close(socket(id)?, &mut query)?,
        (["sockets", _], _) => return Err(not_allowed("GET, HEAD, POST, DELETE")),
        (["broadcast"], Method::Post) => {
            let scope = match (query.one("route")?, &head.server_name) {
                (Some(path), None) => Scope::Route(route(&path, config)?),
                (None, Some(name)) => server(name, config)?,
                (None, None) => Scope::All,
                (Some(_), Some(_)) => return Err(Answer::error(400, "two scopes")),
            };
            Call::Broadcast(scope, query.socket("except")?)
        }
        (["broadcast"], _) => return Err(not_allowed("POST")),
        (["groups", name], Method::Post) => {
            Call::Broadcast(Scope::Group(group(name, config)?), query.socket("except")?)
        }
        (["groups", _], _) => return Err(not_allowed("POST")),
        (["groups", name, "sockets", id], Method::Put) => {
            Call::Join(socket(id)?, group(name, config)?)
        }
        (["groups", name, "sockets", id], Method::Delete) => {
            Call::Leave(socket(id)?, group(name, config)?)
        }
        (["groups", _, "sockets", _], _) => return Err(not_allowed("PUT, DELETE")),
        _ => return Err(Answer::error(404, "no such call")),
    };
    query.end()?;
    Ok(call)
}

fn not_allowed(methods: &'static str) -> Answer {
    Answer::error(405, "not this method").with("Allow", methods)
}

fn list(query: &mut Query, config: &Config) -> Result<ListQuery, Answer> {
    let route_path = query.one("route")?;
    let limit = match query.one("limit")? {
        None => PAGE,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| *limit > 0 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .map_or_else(
                || Err(Answer::error(400, "limit is no number above zero")),
                |limit: usize| Ok(limit.min(MAX_PAGE)),
            )?,
    };
    let group_name = query.one("group")?;
    Ok(ListQuery {
        route: route_path.map(|path| route(&path, config)).transpose()?,
        group: group_name.map(|name| group(&name, config)).transpose()?,
        after: query.socket("after")?,
        limit,
    })
}

fn many(query: &mut Query) -> Result<Call, Answer> {
    let mut seen = HashSet::new();
    let mut ids = Vec::new();
    let mut strangers = Vec::new();
    for text in query.all("id") {
        if !seen.insert(text.clone()) {
            continue;
        }
        match text.parse() {
            Ok(id) => ids.push(id),
            Err(_) if is_opaque_id(&text) => strangers.push(text),
            Err(_) => return Err(Answer::error(400, "that is no socket id")),
        }
    }
    if seen.is_empty() {
        return Err(Answer::error(400, "no id"));
    }
    Ok(Call::Send {
        ids,
        strangers,
        one: None,
    })
}

fn close(id: SocketId, query: &mut Query) -> Result<Call, Answer> {
    let code = match query.one("code")? {
        None => CloseCode::NORMAL,
        Some(text) => text
            .parse()
            .ok()
            .filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(CloseCode::new)
            .ok_or_else(|| Answer::error(400, "no code that may be sent"))?,
    };
    let reason = query.one("reason")?.unwrap_or_default();
    if reason.len() > MAX_REASON {
        return Err(Answer::error(400, "the reason is longer than 123 bytes"));
    }
    Ok(Call::Close(id, code, reason))
}

fn socket(text: &str) -> Result<SocketId, Answer> {
    text.parse().map_err(|_| {
        if is_opaque_id(text) {
            Answer::error(404, "no such socket")
        } else {
            Answer::error(400, "that is no socket id")
        }
    })
}

/// Returns whether a text could be the id of some socket of some worker: URL-safe, at most 64 characters.
fn is_opaque_id(text: &str) -> bool {
    let url_safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(url_safe)
}

fn route(path: &str, config: &Config) -> Result<RouteId, Answer> {
    config
        .route_at(path)
        .map(|route| route.id)
        .ok_or_else(no_such_route)
}

fn no_such_route() -> Answer {
    Answer::error(404, "no such route")
}

/// Finds the routes of a server: its name may come with a port, as in a `Host` header.
fn server(name: &str, config: &Config) -> Result<Scope, Answer> {
    let name = name.split(':').next().unwrap_or_default();
    if name.is_empty() {
        return Err(Answer::error(400, "no server name"));
    }
    let is_its = |route: &Route| match &route.target {
        Target::Hooks(hooks) => {
            let own = hooks.server_name.as_deref();
            own.is_some_and(|own| own.eq_ignore_ascii_case(name))
        }
        Target::Echo | Target::Chat | Target::Handler(_) | Target::Page(_) | Target::Version => {
            false
        }
    };
    let routes = config.routes.iter().filter(|route| is_its(route));
    let mut scopes: Vec<Scope> = routes.map(|route| Scope::Route(route.id)).collect();
    match scopes.pop() {
        None => Err(Answer::error(404, "no route has this server_name")),
        Some(only) if scopes.is_empty() => Ok(only),
        Some(last) => {
            scopes.push(last);
            Ok(Scope::Union(scopes.into()))
        }
    }
}

fn group(name: &str, config: &Config) -> Result<Arc<str>, Answer> {
    let longest = config
        .routes
        .iter()
        .map(|route| route.max_group_name)
        .max()
        .unwrap_or(MAX_GROUP);
    if name.len() > longest || !is_group_name(name) {
        return Err(Answer::error(400, "that is no group name"));
    }
    Ok(name.into())
}

/// The parameters of a query that nobody has asked for yet. One left over is a slip of the caller's, and told.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Self, Answer> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(name, true)?, decode(value, true)?))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn all(&mut self, name: &str) -> Vec<String> {
        let taken = self.0.extract_if(.., |(found, _)| found == name);
        taken.map(|(_, value)| value).collect()
    }

    fn one(&mut self, name: &str) -> Result<Option<String>, Answer> {
        let mut values = self.all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(Answer::error(400, "a parameter stands twice")),
        }
    }

    /// An empty id is none: `except=` with nobody to leave out.
    fn socket(&mut self, name: &str) -> Result<Option<SocketId>, Answer> {
        let text = self.one(name)?.filter(|text| !text.is_empty());
        text.map(|text| {
            text.parse()
                .map_err(|_| Answer::error(400, "that is no socket id"))
        })
        .transpose()
    }

    fn end(&self) -> Result<(), Answer> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(Answer::error_about(400, "an unknown parameter", name)),
        }
    }
}

impl Call {
    /// Returns how many bytes of body it takes.
    ///
    /// # Errors
    /// The caller's fault: a body is wanted and its length not said, or it is encoded.
    pub(super) fn body_limit(&self, head: &Head, config: &Config) -> Result<usize, Answer> {
        match self {
            Self::Send { .. } | Self::Broadcast(..) => {
                if matches!(head.length, Length::Absent) {
                    return Err(Answer::error(411, "a message needs a Content-Length"));
                }
                if head.encoded {
                    return Err(Answer::error(415, "no Content-Encoding is taken"));
                }
                Ok(config.bounds.max_control_body)
            }
            Self::Health
            | Self::Ready
            | Self::Metrics
            | Self::Status
            | Self::Page
            | Self::Drain
            | Self::Reload
            | Self::Join(..)
            | Self::Leave(..)
            | Self::Close(..)
            | Self::List(_)
            | Self::Inspect(_) => Ok(0),
        }
    }

    /// Says what is to be done, or answers at once.
    ///
    /// # Errors
    /// Not an error: the answer that needs nobody else. Or the caller's fault: text that is not UTF-8.
    pub(super) fn ask(
        self,
        binary: bool,
        body: Vec<u8>,
        process: &Process,
    ) -> Result<(Question, Vec<Action>), Answer> {
        Ok(match self {
            Self::Health => return Err(Answer::json(200, r#"{"status":"alive"}"#)),
            Self::Ready => return Err(ready(process)),
            Self::Metrics => return Err(Answer::of(Kind::Metrics, metrics::render(process))),
            Self::Status => return Err(encode(&Overview::of(process))),
            // These are for whoever holds the loop's things.
            Self::Page | Self::Drain | Self::Reload => {
                return Err(Answer::error(500, "not asked here"));
            }
            Self::Send {
                ids,
                strangers,
                one,
            } => {
                let message = message(binary, body)?;
                let mut threads: BTreeMap<u8, Vec<SocketId>> = BTreeMap::new();
                for id in &ids {
                    threads.entry(id.thread).or_default().push(*id);
                }
                let actions = threads
                    .into_values()
                    .map(|ids| Action::Send(ids, Arc::clone(&message)))
                    .collect();
                let sent = HashMap::new();
                (
                    Question::Send {
                        ids,
                        strangers,
                        one,
                        sent,
                    },
                    actions,
                )
            }
            Self::Broadcast(scope, except) => {
                let routes = &process.config.routes;
                let is_gone = match &scope {
                    Scope::Route(id) => routes
                        .get(usize::from(id.0))
                        .is_some_and(|route| route.gone),
                    Scope::All | Scope::Group(_) | Scope::Union(_) => false,
                };
                let sum = Counted::default();
                let action = Action::Broadcast(scope, except, message(binary, body)?);
                (Question::Count { sum, is_gone }, vec![action])
            }
            Self::Join(id, group) => (found(204), vec![Action::Join(id, group)]),
            Self::Leave(id, group) => (found(204), vec![Action::Leave(id, group)]),
            Self::Close(id, code, reason) => (
                found(202),
                vec![Action::Close(id, code, reason, ClosedBy::App)],
            ),
            Self::List(query) => {
                let limit = query.limit;
                let sockets = Vec::new();
                // One more than is shown tells whether there is a next page.
                let query = ListQuery {
                    limit: limit + 1,
                    ..query
                };
                (Question::List { limit, sockets }, vec![Action::List(query)])
            }
            Self::Inspect(id) => (Question::Inspect(None), vec![Action::Inspect(id)]),
        })
    }
}

fn found(status: u16) -> Question {
    Question::Find {
        status,
        found: Found::No,
    }
}

fn message(binary: bool, body: Vec<u8>) -> Result<Arc<Broadcast>, Answer> {
    let message = if binary {
        Message::Binary(body.into())
    } else {
        let text = String::from_utf8(body)
            .map_err(|_| Answer::error(400, "the text is not UTF-8; binary has its own type"))?;
        Message::Text(text.into())
    };
    Ok(Arc::new(Broadcast::new(message)))
}

fn ready(process: &Process) -> Answer {
    match overview::state(process) {
        "ready" => Answer::json(200, r#"{"status":"ready"}"#),
        why => Answer::error(503, why),
    }
}

/// Returns whether a target is the status page, which browsers may ask for.
pub(super) fn is_page(head: &Head) -> bool {
    head.target == "/" && matches!(head.method, Method::Get | Method::Head)
}

/// What has been asked, and what has come of it so far.
#[derive(Debug)]
pub(super) enum Question {
    Send {
        ids: Vec<SocketId>,
        strangers: Vec<String>,
        one: Option<u16>,
        sent: HashMap<SocketId, Sent>,
    },
    Count {
        sum: Counted,
        /// A reload took its route out of the file.
        is_gone: bool,
    },
    Find {
        status: u16,
        found: Found,
    },
    List {
        limit: usize,
        sockets: Vec<SocketInfo>,
    },
    Inspect(Option<Box<SocketInfo>>),
    Reload(Option<Box<Result<Changes, ReloadError>>>),
}

impl Question {
    /// Takes what came of it on one thread. What answers another question is left aside.
    pub(super) fn take(&mut self, outcome: Outcome) {
        match (self, outcome) {
            (Self::Send { sent, .. }, Outcome::Sent(more)) => sent.extend(more),
            (Self::Count { sum, .. }, Outcome::Counted(more)) => {
                sum.queued += more.queued;
                sum.full += more.full;
                sum.unsupported += more.unsupported;
            }
            (Self::Find { found, .. }, Outcome::Found(word)) => *found = word,
            (Self::List { sockets, .. }, Outcome::Listed(more)) => sockets.extend(more),
            (Self::Inspect(info), Outcome::Inspected(found)) => *info = found,
            (Self::Reload(result), Outcome::Reloaded(found)) => *result = Some(found),
            _ => {}
        }
    }

    /// Returns how many bytes of heap it holds.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Send {
                ids,
                strangers,
                sent,
                ..
            } => {
                let texts: usize = strangers.iter().map(String::capacity).sum();
                size_of_val(&**ids)
                    + size_of_val(&**strangers)
                    + texts
                    + sent.capacity() * size_of::<(SocketId, Sent)>()
            }
            Self::List { sockets, .. } => sockets.iter().map(SocketInfo::memory).sum(),
            Self::Inspect(Some(info)) => info.memory(),
            Self::Count { .. } | Self::Find { .. } | Self::Inspect(None) | Self::Reload(_) => 0,
        }
    }

    /// Returns how many bytes may still come from so many threads, where that is much.
    pub(super) fn expected(&self, threads: usize) -> usize {
        match self {
            Self::List { .. } => threads * MAX_PAGE_BYTES,
            Self::Send { .. }
            | Self::Count { .. }
            | Self::Find { .. }
            | Self::Inspect(_)
            | Self::Reload(_) => 0,
        }
    }

    /// Puts the answer together from what has come. Of sockets that nothing came of there is none.
    pub(super) fn answer(self, config: &Config) -> Answer {
        let gone = || Answer::error(404, "no such socket");
        match self {
            Self::Send {
                ids,
                strangers,
                one,
                sent,
            } => {
                let sent = |id: &SocketId| sent.get(id).copied().unwrap_or(Sent::Gone);
                if let Some(done) = one {
                    return match ids.first().map_or(Sent::Gone, sent) {
                        Sent::Queued => Answer::json(done, "{}"),
                        Sent::Gone => gone(),
                        Sent::Full => Answer::error(429, "full"),
                        Sent::Unsupported => Answer::error(409, "its version has no binary"),
                    };
                }
                let which = |word| -> Vec<String> {
                    let those = ids.iter().filter(|id| sent(id) == word);
                    those.map(ToString::to_string).collect()
                };
                encode(&SentMany {
                    queued: which(Sent::Queued),
                    gone: [which(Sent::Gone), strangers].concat(),
                    full: which(Sent::Full),
                    unsupported: which(Sent::Unsupported),
                })
            }
            // Nobody is left of whom it would be the route.
            Self::Count { sum, is_gone: true } if sum == Counted::default() => no_such_route(),
            Self::Count { sum, .. } => encode(&Sums {
                queued: sum.queued,
                full: sum.full,
                unsupported: sum.unsupported,
            }),
            Self::Find { status, found } => match found {
                Found::Yes => Answer::json(status, "{}"),
                Found::No => gone(),
                Found::Full => Answer::error(409, "it is in as many groups as it may be"),
            },
            Self::List { limit, sockets } => page(limit, &sockets, config),
            Self::Inspect(None) => gone(),
            Self::Reload(None) => Answer::error(503, "nothing is known of the reload"),
            Self::Reload(Some(result)) => reloaded(&result),
            Self::Inspect(Some(info)) => encode(&Info::new(&info, config)),
        }
    }
}

fn reloaded(result: &Result<Changes, ReloadError>) -> Answer {
    let error = match result {
        Ok(changes) => {
            return encode(&Reloaded {
                added: &changes.added,
                removed: &changes.removed,
                at_next_start: &changes.at_next_start,
                warnings: &changes.warnings,
            });
        }
        Err(error) => error,
    };
    let status = match error {
        ReloadError::Busy => 429,
        ReloadError::Stopping => 503,
        ReloadError::NoSource | ReloadError::Config(_) => 409,
    };
    let text = error.to_string();
    Answer::json(status, serde_json::json!({ "error": text }).to_string())
}

/// Merges what the threads found, in the order of the ids' text, and cuts a page off.
fn page(limit: usize, sockets: &[SocketInfo], config: &Config) -> Answer {
    let mut sorted: Vec<(String, &SocketInfo)> = sockets
        .iter()
        .map(|info| (info.id.to_string(), info))
        .collect();
    sorted.sort_by(|one, other| one.0.cmp(&other.0));
    let mut body = String::from(r#"{"sockets":["#);
    let mut last = None;
    let mut next = None;
    for (shown, (id, info)) in sorted.iter().enumerate() {
        if shown >= limit || body.len() >= MAX_PAGE_BYTES {
            next = last;
            break;
        }
        let Ok(json) = serde_json::to_string(&Info::new(info, config)) else {
            continue; // Strings and numbers alone: it cannot fail.
        };
        if last.is_some() {
            body.push(',');
        }
        body.push_str(&json);
        last = Some(id.as_str());
    }
    body.push_str(r#"],"next":"#);
    match next {
        // An id is URL-safe: nothing in it to escape.
        Some(id) => {
            body.push('"');
            body.push_str(id);
            body.push_str("\"}");
        }
        None => body.push_str("null}"),
    }
    Answer::json(200, body)
}

fn encode(value: &impl Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(json) => Answer::json(200, json),
        Err(_) => Answer::error(500, "the answer could not be written"),
    }
}

#[derive(Serialize)]
struct SentMany {
    queued: Vec<String>,
    gone: Vec<String>,
    full: Vec<String>,
    unsupported: Vec<String>,
}

#[derive(Serialize)]
struct Reloaded<'a> {
    added: &'a [String],
    removed: &'a [String],
    at_next_start: &'a [&'static str],
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Sums {
    queued: usize,
    full: usize,
    unsupported: usize,
}

#[derive(Serialize)]
struct Info<'a> {
    id: String,
    route: &'a str,
    version: &'static str,
    peer: &'a str,
    origin: Option<&'a str>,
    resource: &'a str,
    protocol: Option<&'a str>,
    groups: Vec<&'a str>,
    meta: BTreeMap<&'a str, &'a str>,
    since: u64,
    messages_in: u64,
    messages_out: u64,
    queue: usize,
}

impl<'a> Info<'a> {
    fn new(info: &'a SocketInfo, config: &'a Config) -> Self {
        let route = config.routes.get(usize::from(info.route.0));
        Self {
            id: info.id.to_string(),
            route: route.map_or("", |route| route.path.as_str()),
            version: info.version.name(),
            peer: &info.peer,
            origin: info.origin.as_deref(),
            resource: &info.resource,
            protocol: info.protocol.as_deref(),
            groups: info.groups.iter().map(|group| &**group).collect(),
            meta: info
                .meta
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect(),
            since: info.since,
            messages_in: info.messages_in,
            messages_out: info.messages_out,
            queue: info.queue,
        }
    }
}

#[cfg(test)]
mod tests;
