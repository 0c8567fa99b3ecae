//! A stand-in until the loop is here: threads, signals, drain.

use crate::config::Config;
use std::fmt;

/// Why the worker could not start.
#[derive(Debug)]
pub enum StartError {
    /// There is no loop yet.
    NotYet,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is no loop yet")
    }
}

impl std::error::Error for StartError {}

/// Runs the worker until it is told to end.
///
/// # Errors
/// The system's: an address cannot be listened on.
pub fn run(config: Config) -> Result<(), StartError> {
    drop(config);
    Err(StartError::NotYet)
}
