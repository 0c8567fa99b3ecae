//! TLS to apps: whom to believe, decided at start, and one session over a stream. Knows no HTTP, opens no connection and
//! waits for nothing. Without the feature `tls` an `https://` app is refused at start, and nothing comes here.

#[cfg(feature = "tls")]
#[path = "with.rs"]
mod session;
#[cfg(not(feature = "tls"))]
#[path = "without.rs"]
mod session;

pub use session::Tls;
pub(crate) use session::{Session, Trust};

/// Why a session did not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "no session begins"))]
pub(crate) enum Fault {
    /// Nobody who is trusted has signed the app's certificate.
    UnknownAuthority,
    /// Its time is over, or has not come yet.
    Expired,
    /// It is another host's.
    WrongName,
    /// It is no good for another reason.
    Certificate,
    /// What answers speaks no TLS.
    NotTls,
    /// The app ended the handshake: no common version or cipher, or it wants a certificate of ours.
    Refused,
    /// The session broke otherwise.
    Broken,
}

impl Fault {
    /// Says it in a log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UnknownAuthority => {
                "TLS: nobody trusted has signed the app's certificate; `ca_file` names who has"
            }
            Self::Expired => "TLS: the app's certificate is not valid at this time",
            Self::WrongName => "TLS: the app's certificate is for another host",
            Self::Certificate => "TLS: the app's certificate is not good",
            Self::NotTls => "TLS: what answers there speaks none; is it http:// ?",
            Self::Refused => "TLS: the app refused the handshake",
            Self::Broken => "TLS: the session broke",
        }
    }
}
