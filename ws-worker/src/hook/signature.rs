//! Standard Webhooks: what proves to an app that a hook comes from this worker. Knows no header and no clock.

use crate::config::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// One or two keys, prepared once.
pub(crate) struct Signer {
    keys: Vec<Hmac<Sha256>>,
}

impl Signer {
    /// Prepares the keys: `whsec_` and base64, or the bytes themselves.
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        let keys = secrets
            .iter()
            .filter_map(|secret| Hmac::new_from_slice(&key(&secret.0)).ok())
            .collect();
        Self { keys }
    }

    /// Returns whether there is nothing to sign with.
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Appends `v1,` and the signature of `id.timestamp.body` for every key, between spaces.
    pub(crate) fn sign(&self, id: &[u8], timestamp: &[u8], body: &[u8], out: &mut Vec<u8>) {
        for (place, key) in self.keys.iter().enumerate() {
            let mut mac = key.clone();
            for part in [id, b".", timestamp, b".", body] {
                mac.update(part);
            }
            let mut text = [0; 44];
            let length = STANDARD
                .encode_slice(mac.finalize().into_bytes(), &mut text)
                .unwrap_or(0);
            out.extend_from_slice(if place == 0 { b"v1," } else { b" v1," });
            out.extend_from_slice(text.get(..length).unwrap_or_default());
        }
    }
}

fn key(secret: &[u8]) -> Vec<u8> {
    secret
        .trim_ascii()
        .strip_prefix(b"whsec_")
        .and_then(|text| STANDARD.decode(text).ok())
        .unwrap_or_else(|| secret.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(secrets: &[&str]) -> String {
        let secrets: Vec<_> = secrets
            .iter()
            .map(|text| Secret(text.as_bytes().to_vec()))
            .collect();
        let mut out = Vec::new();
        let body = br#"{"test": 2432232314}"#;
        Signer::new(&secrets).sign(
            b"msg_p5jXN8AQM9LWM0D4loKWxJek",
            b"1614265330",
            body,
            &mut out,
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_example_of_standard_webhooks_comes_out() {
        assert_eq!(
            signed(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn two_secrets_give_two_signatures() {
        let both = signed(&["old", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
        let (first, second) = both.split_once(' ').unwrap();
        assert_eq!(first, signed(&["old"]));
        assert_eq!(second, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
