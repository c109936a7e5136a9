//! The address of a server that the platform is told to use, with whatever password is in it.
//!
//! It can be shown to people without its secrets, and is never shown otherwise. Nothing here connects. Made by the
//! configuration; read by the wiring.

use reqwest::Url;
use std::fmt;

/// An address such as `postgres://user:password@host:5432/database`.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Reads an address that begins with one of these schemes.
    ///
    /// # Errors
    /// What is wrong and what to write instead, without the address: it may hold a password.
    pub fn parse(text: &str, schemes: &[&str], example: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is no address ({error}); write for example {example}"))?;
        if !schemes.contains(&url.scheme()) {
            return Err(format!("begins with `{}://`; write for example {example}", url.scheme()));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(format!("names no host; write for example {example}"));
        }
        Ok(Self(url))
    }

    /// The whole address, with its secrets.
    pub fn secret(&self) -> &str {
        self.0.as_str()
    }
}

/// Without user, password and parameters.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;

    #[test]
    fn an_address_keeps_its_secrets() {
        let text = "postgres://us%20er:hunter2@db.example:5433/chimera?password=hunter3";
        let address = Address::parse(text, &["postgres"], "x").unwrap();
        assert_eq!(address.secret(), text);
        assert_eq!(address.to_string(), "postgres://db.example:5433/chimera");
        assert_eq!(format!("{address:?}"), "Address(postgres://db.example:5433/chimera)");
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for bad in ["", "hunter2", "mysql://a:hunter2@b/c", "postgres:///hunter2", "postgres://:hunter2@/x"] {
            let problem = Address::parse(bad, &["postgres"], "postgres://a/b").unwrap_err();
            assert!(problem.contains("write for example postgres://a/b"), "{bad}: {problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }
}
