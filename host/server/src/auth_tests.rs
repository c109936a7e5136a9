#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use super::*;

fn auth_at(token: &str, address: &str) -> Auth {
    Auth::new(token, address.parse().unwrap()).unwrap()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000).plus(Duration::from_secs(seconds))
}

#[test]
fn the_token_is_made_once_and_only_its_owner_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("operator.token");
    let token = load_or_create_token(&path).unwrap();
    assert_eq!(URL_SAFE_NO_PAD.decode(&token).unwrap().len(), 32);
    assert_eq!(load_or_create_token(&path).unwrap(), token);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        load_or_create_token(&path).unwrap();
        assert_eq!(mode(), 0o600);
    }
    std::fs::write(&path, "hello\n").unwrap();
    assert!(load_or_create_token(&path).unwrap_err().to_string().contains("does not hold a token"));
}

#[test]
fn a_ticket_opens_once_and_not_after_its_time() {
    let auth = auth_at("secret", "127.0.0.1:7700");
    let (first, second) = (auth.mint_ticket(at(0)).unwrap(), auth.mint_ticket(at(0)).unwrap());
    assert!(auth.redeem(&first, at(1)));
    assert!(!auth.redeem(&first, at(2)));
    assert!(!auth.redeem(&second, at(TICKET_LASTS.as_secs() + 1)));
    assert!(!auth.redeem("secret", at(1)));
    let oldest = auth.mint_ticket(at(0)).unwrap();
    let kept: Vec<String> = (0..MAX_TICKETS).map(|_| auth.mint_ticket(at(0)).unwrap()).collect();
    assert!(!auth.redeem(&oldest, at(1)));
    assert!(kept.iter().all(|ticket| auth.redeem(ticket, at(1))));
}

#[test]
fn a_session_ends_by_itself_and_when_it_is_ended() {
    let auth = auth_at("secret", "127.0.0.1:7700");
    let open = |session: &str, now| auth.end_of_session(session, now).is_some();
    let (first, second) = (auth.new_session(at(0)).unwrap(), auth.new_session(at(0)).unwrap());
    assert!(open(&first, at(1)) && open(&second, at(1)));
    assert!(auth.end_session(&first, at(2)));
    assert!(!open(&first, at(2)) && open(&second, at(2)));
    assert!(!auth.end_session(&first, at(2)), "it was ended before");
    assert!(!open(&second, at(SESSION_LASTS.as_secs() + 1)));
    for bad in ["", "secret", &auth.mint_ticket(at(0)).unwrap()] {
        assert!(!open(bad, at(1)), "{bad}");
    }
    let oldest = auth.new_session(at(3)).unwrap();
    let kept: Vec<String> = (0..MAX_SESSIONS).map(|_| auth.new_session(at(3)).unwrap()).collect();
    assert!(!open(&oldest, at(4)));
    assert!(kept.iter().all(|session| open(session, at(4))));
}

#[test]
fn only_this_machines_names_with_this_port_are_its_hosts() {
    let auth = auth_at("secret", "127.0.0.1:7700");
    for good in ["127.0.0.1:7700", "localhost:7700", "LOCALHOST:7700", "[::1]:7700"] {
        assert!(auth.is_own_host(good), "{good}");
    }
    for bad in [
        "",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:80",
        "localhost:7700.evil.example",
        "evil.example:7700",
        "localhost.evil.example:7700",
        "127.0.0.1:7700:7700",
        "127.0.0.10:7700",
        "[::1]",
        "::1:7700",
        "0.0.0.0:7700",
    ] {
        assert!(!auth.is_own_host(bad), "{bad}");
    }
    assert!(auth_at("secret", "127.0.0.1:80").is_own_host("localhost"));
}

#[test]
fn the_bound_address_is_its_host_too_and_no_other_of_its_kind() {
    let odd = auth_at("secret", "127.0.0.2:7700");
    for good in ["127.0.0.2:7700", "127.0.0.1:7700", "localhost:7700", "[::1]:7700"] {
        assert!(odd.is_own_host(good), "{good}");
    }
    for bad in ["127.0.0.2", "127.0.0.2:7701", "127.0.0.20:7700", "127.0.0.3:7700", "127.0.0.2.evil.example:7700"] {
        assert!(!odd.is_own_host(bad), "{bad}");
    }
    assert!(!auth_at("secret", "127.0.0.1:7700").is_own_host("127.0.0.2:7700"));
    assert!(auth_at("secret", "[::1]:7700").is_own_host("[::1]:7700"));
}
