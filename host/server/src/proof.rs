//! How a server proves that it knows the operator's token without showing it.
//!
//! A port outlives nobody: whoever takes a dead server's port would be sent the token next, so the CLI first asks for a
//! MAC that only a holder of the same token can make. It proves nothing about who asks, and opens nothing. Called by
//! `/healthz`, which answers a challenge, and by the CLI, which sends one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;
use std::net::SocketAddr;

/// Longest challenge that is answered, in bytes.
pub(crate) const MAX_CHALLENGE: usize = 64;
/// Keeps this key apart from every other one that is derived from the token, and this kind of proof from later ones.
const PURPOSE: &[u8] = b"chimera server proof 1";

/// What a proof is asked about: base64url text that nobody has asked about before.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Challenge(String);

impl Challenge {
    /// 32 random bytes.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// As it is written in an address.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text that is no challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a challenge is 1 to {MAX_CHALLENGE} characters of A-Z, a-z, 0-9, `-` and `_`")]
pub(crate) struct NoChallenge;

impl TryFrom<String> for Challenge {
    type Error = NoChallenge;

    fn try_from(text: String) -> Result<Self, NoChallenge> {
        let is_challenge = (1..=MAX_CHALLENGE).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        is_challenge.then_some(Self(text)).ok_or(NoChallenge)
    }
}

/// Makes and checks the proofs of the server that listens at one address and whose operator has one token.
pub(crate) struct Prover {
    key: Hmac<Sha256>,
    address: SocketAddr,
}

impl Prover {
    /// The proofs of a server that is bound to `address`.
    ///
    /// # Errors
    /// Never in practice: HMAC takes keys of every length.
    pub(crate) fn new(token: &str, address: SocketAddr) -> Result<Self, hmac::digest::InvalidLength> {
        let derived = Hmac::<Sha256>::new_from_slice(token.as_bytes())?.chain_update(PURPOSE).finalize();
        Ok(Self { key: Hmac::<Sha256>::new_from_slice(&derived.into_bytes())?, address })
    }

    /// What the server answers.
    pub(crate) fn prove(&self, challenge: &Challenge) -> String {
        URL_SAFE_NO_PAD.encode(self.over(challenge).finalize().into_bytes())
    }

    /// Is this what the server answers? Compares in constant time.
    pub(crate) fn is_proof(&self, challenge: &Challenge, proof: &str) -> bool {
        URL_SAFE_NO_PAD.decode(proof).is_ok_and(|proof| self.over(challenge).verify_slice(&proof).is_ok())
    }

    /// The address is part of it, so that a proof cannot be fetched from the same operator's server at another port.
    fn over(&self, challenge: &Challenge) -> Hmac<Sha256> {
        // No challenge holds a line's end, so the two parts cannot run into each other.
        self.key.clone().chain_update(format!("{}\n{}", challenge.as_str(), self.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prover(token: &str, address: &str) -> Prover {
        Prover::new(token, address.parse().expect("an address")).expect("a key")
    }

    #[test]
    fn only_the_same_token_and_address_make_the_proof() {
        let challenge = Challenge::random().expect("random numbers");
        let ours = prover("secret", "127.0.0.1:7700");
        let proof = ours.prove(&challenge);
        assert!(ours.is_proof(&challenge, &proof));
        assert!(prover("secret", "127.0.0.1:7700").is_proof(&challenge, &proof));
        for other in [prover("another", "127.0.0.1:7700"), prover("secret", "127.0.0.1:7701")] {
            assert!(!other.is_proof(&challenge, &proof));
        }
        assert!(!prover("secret", "127.0.0.2:7700").is_proof(&challenge, &proof));
        assert!(!ours.is_proof(&Challenge::random().expect("random numbers"), &proof));
        for bad in ["", "AAAA", &proof[..proof.len() - 2], &format!("{proof}AA"), "not base64url", challenge.as_str()] {
            assert!(!ours.is_proof(&challenge, bad), "{bad}");
        }
    }

    #[test]
    fn the_proof_is_what_the_documentation_says() {
        let challenge = Challenge::try_from("abc".to_owned()).expect("a challenge");
        // printf 'abc\n127.0.0.1:7700' | openssl dgst -sha256 -mac HMAC -macopt hexkey:$(printf 'chimera server proof 1'
        // | openssl dgst -sha256 -hmac secret -r | cut -d' ' -f1), in base64url.
        assert_eq!(prover("secret", "127.0.0.1:7700").prove(&challenge), "8oGJ52Q_zAHcRSKaqNXyBwiDBmw1LatWIdGtOI7mfVc");
    }

    #[test]
    fn a_challenge_is_short_and_plain() {
        let challenge = |text: &str| Challenge::try_from(text.to_owned());
        assert!(challenge("a").is_ok() && challenge(&"Z-_9".repeat(16)).is_ok());
        assert!(Challenge::random().is_ok_and(|random| challenge(random.as_str()) == Ok(random)));
        for bad in ["", "a b", "a\nb", "a=", "ä", "a/b", &"x".repeat(MAX_CHALLENGE + 1)] {
            assert_eq!(challenge(bad), Err(NoChallenge), "{bad}");
        }
    }
}
