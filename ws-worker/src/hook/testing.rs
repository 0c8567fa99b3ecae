//! What the tests of hooks have in common: a configuration, and a handshake's facts.

use crate::command::{RouteId, SocketId};
use crate::config::{AppAddress, AppUrl, Config, Hooks, Route, Scheme, Target};
use crate::hook::endpoint::{Endpoint, Facts};
use crate::process::Process;
use std::sync::Arc;
use ws_proto::Version;

pub(crate) fn hooks() -> Hooks {
    let url = AppUrl {
        scheme: Scheme::Http,
        address: AppAddress::Tcp(Vec::new()),
        host: "app.example".into(),
        path: "/ws".into(),
    };
    Hooks {
        concurrency: 4,
        forward_headers: vec!["cookie".into()],
        ..Hooks::new(0, url)
    }
}

pub(crate) fn route(hooks: Hooks) -> Arc<Route> {
    let target = Target::Hooks(Arc::new(hooks));
    Arc::new(Route::new(RouteId(3), "/chat", target))
}

pub(crate) fn process(route: &Arc<Route>, threads: u8) -> Arc<Process> {
    let config = Config {
        threads,
        worker: "web1".into(),
        routes: vec![Arc::clone(route)],
        ..Config::default()
    };
    let mut process = Process::new(Arc::new(config)).unwrap();
    Arc::get_mut(&mut process).unwrap().rename("BOOT");
    process
}

pub(super) fn endpoint_with(hooks: Hooks) -> Endpoint {
    let route = route(hooks);
    let process = process(&route, 1);
    let Target::Hooks(hooks) = &route.target else {
        unreachable!()
    };
    Endpoint::new(&process, &route, hooks)
}

pub(super) fn id(slot: u32) -> SocketId {
    SocketId {
        boot: [1, 2, 3],
        thread: 0,
        slot,
        key: [9; 16],
    }
}

pub(super) fn facts() -> Facts<'static> {
    Facts {
        id: id(7),
        version: Version::Rfc6455,
        resource: "/chat/room?x=1",
        path: "/chat/room",
        query: Some("x=1"),
        location: "ws://www.example.org/chat/room?x=1",
        origin: None,
        peer: "tcp:192.0.2.1:4711",
        protocols: Vec::new(),
        headers: Vec::new(),
        trusted: false,
    }
}
