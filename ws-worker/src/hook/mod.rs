//! Stub.
use crate::config::{Config, Route};
use crate::handler::Handler;
use crate::process::Process;
use crate::source::{Readiness, Turn};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use ws_proto::Instant;
pub(crate) struct Permits;
impl Permits {
    pub(crate) fn of(_: &Config) -> Arc<[Self]> {
        Arc::new([])
    }
}
pub(crate) struct Pool;
impl Pool {
    pub(crate) fn new(_: Arc<Process>, _: Arc<[Permits]>, _: u8) -> Self {
        Self
    }
    pub(crate) fn ready(&mut self, _: &mut Turn<'_>, _: usize, _: Readiness) {}
    pub(crate) fn handle_timeout(&mut self, _: &mut Turn<'_>) {}
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    pub(crate) fn flush(&mut self, _: &mut Turn<'_>) {}
    pub(crate) fn permit(&mut self, _: &mut Turn<'_>, _: usize) {}
    pub(crate) fn is_idle(&self) -> bool {
        true
    }
    pub(crate) fn stop(&mut self, _: Instant) {}
}
pub(crate) struct HookHandler;
impl HookHandler {
    pub(crate) fn new(_: Rc<RefCell<Pool>>, _: Arc<Route>) -> Self {
        Self
    }
}
impl Handler for HookHandler {}
