//! Stands where the transforms would, in a build without them. Nothing is agreed there, so nothing comes here.

use super::WindowBits;
use crate::error::ProtocolError;

#[derive(Debug, Default)]
pub(crate) struct Codec;

impl Codec {
    pub(crate) fn shrink(&mut self, _keep: usize) {}

    pub(crate) fn compress(
        &mut self,
        _payload: &[u8],
        _level: i32,
        _bits: WindowBits,
        _history: &[u8],
    ) -> Option<&[u8]> {
        None
    }

    pub(crate) fn inflate(
        &mut self,
        _payload: &[u8],
        _max: usize,
        _history: &[u8],
        _push: &mut dyn FnMut(&[u8]) -> Result<(), ProtocolError>,
    ) -> Result<&[u8], ProtocolError> {
        Err(ProtocolError::Deflate)
    }
}
