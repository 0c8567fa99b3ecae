//! Stands where TLS would, in a build without it. The configuration refuses what would need one, so nobody has one.

use super::Fault;
use crate::stream::Stream;
use std::convert::Infallible;
use std::io::{self, IoSlice};

/// What it takes to speak TLS to one app: nothing here can.
#[derive(Clone, Debug, PartialEq)]
pub struct Tls(Infallible);

impl Tls {
    pub(crate) fn is_host(_host: &str) -> bool {
        false
    }

    pub(crate) fn new(_host: &str, trust: &Trust) -> Option<Self> {
        match trust.0 {}
    }
}

/// Authorities that are believed.
#[derive(Clone, Debug)]
pub(crate) struct Trust(Infallible);

impl Trust {
    pub(crate) const IS_BUILT_IN: bool = false;

    pub(crate) fn of_the_system() -> Result<Self, String> {
        Err("this worker was built without TLS".to_owned())
    }

    pub(crate) fn of_file(_pem: &[u8]) -> Result<Self, String> {
        Self::of_the_system()
    }
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session(Infallible);

impl Session {
    pub(crate) const MEMORY: usize = 0;

    pub(crate) fn new(tls: &Tls) -> io::Result<Self> {
        match tls.0 {}
    }

    pub(crate) fn shake_hands(&mut self, _stream: &mut Stream) -> Result<bool, Fault> {
        match self.0 {}
    }

    pub(crate) fn read(&mut self, _stream: &mut Stream, _room: &mut [u8]) -> io::Result<usize> {
        match self.0 {}
    }

    pub(crate) fn write(
        &mut self,
        _stream: &mut Stream,
        _bytes: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        match self.0 {}
    }

    pub(crate) fn flush(&mut self, _stream: &mut Stream) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn is_flushed(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn finish(&mut self, _stream: &mut Stream) {
        match self.0 {}
    }
}
