//! The opening handshake, client role, for tests and load: randomness is passed in.

/// Random bytes for the keys of one handshake.
#[derive(Clone, Debug)]
pub struct Nonce(pub [u8; 64]);

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct ClientOptions {}

/// An opening handshake, client role.
#[derive(Debug)]
pub struct ClientHandshake {}
