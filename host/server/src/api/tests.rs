//! The API over a real platform on an empty data folder, called in memory.

#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use super::*;
use crate::auth::Auth;
use crate::config::Config;
use crate::wiring::Platform;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, Method};
use serde_json::{Value, json};
use tower::ServiceExt as _;

const OWN: &str = "127.0.0.1:7700";
const TOKEN: &str = "the-operators-token";

struct Fixture {
    _folder: tempfile::TempDir,
    platform: Platform,
    state: AppState,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or("").to_owned()
    }
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let platform = Platform::start(Config::for_data_dir(folder.path().join("data"))).await.unwrap();
        let auth = Auth::new(TOKEN, OWN.parse().unwrap()).unwrap();
        let state = AppState::new(platform.handles().clone(), auth, CancellationToken::new());
        Self { _folder: folder, router: router(state.clone()), state, platform }
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = axum::http::Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == HOST.as_str()) {
            request = request.header(HOST, OWN);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[(AUTHORIZATION.as_str(), &format!("Bearer {TOKEN}"))], "").await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(TOKEN, path, body).await
    }

    async fn post_as(&self, token: &str, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [(AUTHORIZATION.as_str(), bearer.as_str()), (CONTENT_TYPE.as_str(), "application/json")];
        self.ask(Method::POST, path, &headers, &body.to_string()).await
    }

    /// Makes an agent and gives its token.
    async fn agent(&self, name: &str, role: &str) -> String {
        let agent = self.post("/api/v1/agents", &json!({ "name": name, "type": role })).await.json();
        let made = self.post(&format!("/api/v1/agents/{}/token", agent["id"].as_str().unwrap()), &json!({})).await;
        assert_eq!(made.status, StatusCode::CREATED);
        made.json()["token"].as_str().unwrap().to_owned()
    }

    async fn end(self) {
        drop(self.router);
        drop(self.state);
        self.platform.shutdown().await;
    }
}

/// A path with its parameters filled with something that parses.
fn example(path: &str) -> String {
    let id = "0190f3c2-7b1e-7c3a-9f00-0123456789ab";
    path.replace("{id}", id).replace("{namespace}", "acme").replace("{name}", "x")
}

#[tokio::test]
async fn nothing_but_the_public_routes_answers_a_stranger() {
    let api = Fixture::new().await;
    for endpoint in endpoints() {
        let answer = api.ask(endpoint.method.clone(), &example(endpoint.path), &[], "").await;
        let place = format!("{} {}: {}", endpoint.method, endpoint.path, answer.text);
        match endpoint.access {
            Public => assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{place}"),
            Operator | Agent => {
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{place}");
                assert_eq!(answer.headers[CONTENT_TYPE], "application/problem+json", "{place}");
                assert_eq!(answer.code(), "unauthenticated", "{place}");
            }
        }
    }
    let public: Vec<&str> = endpoints().iter().filter(|e| e.access == Public).map(|e| e.path).collect();
    assert_eq!(
        public,
        [
            "/healthz",
            "/readyz",
            "/metrics",
            "/",
            "/assets/style.css",
            "/assets/app.js",
            "/assets/events.js",
            "/assets/icon.svg",
            "/login",
            "/openapi.json"
        ]
    );
    api.end().await;
}

#[tokio::test]
async fn the_document_names_every_route_and_every_parameter() {
    let api = Fixture::new().await;
    let document = api.ask(Method::GET, "/openapi.json", &[], "").await.json();
    let mut count = 0;
    for endpoint in endpoints() {
        let operation = &document["paths"][endpoint.path][endpoint.method.as_str().to_lowercase()];
        assert!(operation.is_object(), "{} {} is not in the document", endpoint.method, endpoint.path);
        assert!(!operation["summary"].as_str().unwrap_or("").is_empty(), "{} says nothing", endpoint.path);
        assert_eq!(operation["security"].is_array(), endpoint.access != Public, "{}", endpoint.path);
        for name in endpoint::parameters(endpoint.path) {
            let named = operation["parameters"].as_array().is_some_and(|all| all.iter().any(|p| p["name"] == name));
            assert!(named, "{} does not tell of {name}", endpoint.path);
        }
        count += 1;
    }
    let documented: usize =
        document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap().len()).sum();
    assert_eq!(documented, count);
    for specified in ["/assign_task", "/report_result", "/evaluate_task"] {
        assert!(document["paths"][specified]["post"]["requestBody"].is_object(), "{specified}");
    }
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "`{name}` is referred to and missing");
    }
    api.end().await;
}

#[tokio::test]
async fn another_host_or_origin_is_refused_before_anything_else() {
    let api = Fixture::new().await;
    let bearer = format!("Bearer {TOKEN}");
    let token = (AUTHORIZATION.as_str(), bearer.as_str());
    for host in ["evil.example", "evil.example:7700", "127.0.0.1:7701", "localhost", ""] {
        let answer = api.ask(Method::GET, "/healthz", &[(HOST.as_str(), host), token], "").await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::MISDIRECTED_REQUEST, "wrong-host"), "{host}");
    }
    for origin in
        ["http://evil.example", "null", "https://127.0.0.1:7700", "http://127.0.0.1:7701", "http://localhost:7700"]
    {
        let answer = api.ask(Method::GET, "/api/v1/session", &[(ORIGIN.as_str(), origin), token], "").await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::FORBIDDEN, "wrong-origin"), "{origin}");
    }
    for host in [OWN, "localhost:7700", "[::1]:7700"] {
        let origin = format!("http://{host}");
        let answer = api
            .ask(Method::GET, "/api/v1/session", &[(HOST.as_str(), host), (ORIGIN.as_str(), &origin), token], "")
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{host}: {}", answer.text);
    }
    let twice = [(HOST.as_str(), OWN), (HOST.as_str(), "evil.example"), token];
    assert_eq!(api.ask(Method::GET, "/healthz", &twice, "").await.code(), "repeated-header");
    api.end().await;
}

#[tokio::test]
async fn a_challenge_is_answered_with_a_proof_that_needs_the_token() {
    let api = Fixture::new().await;
    let plain = json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") });
    for path in ["/healthz", "/healthz?probe=1"] {
        assert_eq!(api.ask(Method::GET, path, &[], "").await.json(), plain, "{path}");
    }
    let prover = crate::proof::Prover::new(TOKEN, OWN.parse().unwrap()).unwrap();
    let challenge = crate::proof::Challenge::random().unwrap();
    let path = format!("/healthz?challenge={}", challenge.as_str());
    // Whichever name it is asked by, the proof is about the address it is bound to.
    for host in [OWN, "localhost:7700"] {
        let answer = api.ask(Method::GET, &path, &[(HOST.as_str(), host)], "").await;
        assert_eq!((answer.status, answer.json()["status"].as_str()), (StatusCode::OK, Some("ok")));
        assert!(prover.is_proof(&challenge, answer.json()["proof"].as_str().unwrap()), "{}", answer.text);
    }
    let long = "x".repeat(65);
    for bad in
        ["challenge=", "challenge=a%20b", "challenge=a%0Ab", "challenge=a&challenge=b", &format!("challenge={long}")]
    {
        let answer = api.ask(Method::GET, &format!("/healthz?{bad}"), &[], "").await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "invalid-query"), "{bad}");
        assert!(!answer.text.contains("proof\""), "{}", answer.text);
    }
    api.end().await;
}

#[tokio::test]
async fn wrong_credentials_do_not_open() {
    let api = Fixture::new().await;
    for header in ["Bearer wrong", "Bearer ", "Bearer", "Basic dXNlcjpwYXNz", TOKEN, &format!("Token {TOKEN}")] {
        let answer = api.ask(Method::GET, "/api/v1/session", &[(AUTHORIZATION.as_str(), header)], "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{header}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"chimera\"");
    }
    let answer = api.get("/api/v1/session").await;
    assert_eq!(answer.json(), json!({ "actor": "operator:local" }));
    api.end().await;
}

/// The session that an answer to `/login` gives. It is in the body and nowhere else.
fn session_of(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert!(!answer.headers.contains_key(SET_COOKIE), "a cookie would be sent to every port of this machine");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(!answer.text.contains(TOKEN));
    answer.json()["session"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_login_gives_a_session_that_is_sent_on_purpose_and_ends() {
    let api = Fixture::new().await;
    let json_type = (CONTENT_TYPE.as_str(), "application/json");
    let login = async |body: &str| api.ask(Method::POST, "/login", &[json_type], body).await;
    let wrong = login(r#"{"token":"wrong"}"#).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (StatusCode::UNAUTHORIZED, "wrong-token"));
    for neither in ["{}", r#"{"token":"x","ticket":"y"}"#, r#"{"token":null}"#] {
        let answer = login(neither).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "invalid-body"), "{neither}");
    }
    let session = session_of(&login(&json!({ "token": TOKEN }).to_string()).await);
    let other = session_of(&login(&json!({ "token": TOKEN }).to_string()).await);
    assert_ne!(session, other);
    let made = api.post_as(&session, "/api/v1/agents", &json!({ "name": "w", "type": "worker" })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(show_as(&api, &session).await.json(), json!({ "actor": "operator:local" }));
    let agents = api.agent("outside", "worker").await;

    let logout = async |token: &str| api.post_as(token, "/logout", &json!({})).await;
    assert_eq!(logout(&session).await.status, StatusCode::NO_CONTENT);
    assert_eq!(show_as(&api, &session).await.code(), "unauthenticated");
    assert_eq!(logout(&session).await.code(), "unauthenticated");
    assert_eq!(show_as(&api, &other).await.status, StatusCode::OK, "another tab's session goes on");
    assert_eq!(logout(TOKEN).await.code(), "no-session");
    assert_eq!(logout(&agents).await.code(), "operator-only");
    api.end().await;
}

async fn show_as(api: &Fixture, token: &str) -> Answer {
    api.ask(Method::GET, "/api/v1/session", &[(AUTHORIZATION.as_str(), &format!("Bearer {token}"))], "").await
}

#[tokio::test]
async fn what_a_browser_sends_by_itself_opens_nothing() {
    let api = Fixture::new().await;
    let body = json!({ "token": TOKEN }).to_string();
    let json_type = (CONTENT_TYPE.as_str(), "application/json");
    let session = session_of(&api.ask(Method::POST, "/login", &[json_type], &body).await);
    for secret in [TOKEN, &session] {
        for name in ["chimera_session", "chimera.session", "session", "token", "Authorization"] {
            let cookie = format!("{name}={secret}");
            let answer = api.ask(Method::GET, "/api/v1/session", &[(COOKIE.as_str(), &cookie)], "").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}");
        }
        for path in ["/api/v1/session?token=", "/api/v1/session?session=", "/api/v1/events?token="] {
            let answer = api.ask(Method::GET, &format!("{path}{secret}"), &[], "").await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
    api.end().await;
}

#[tokio::test]
async fn a_link_logs_in_once_and_its_ticket_is_never_sent() {
    let api = Fixture::new().await;
    let made = api.post("/api/v1/session/links", &json!({})).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let url = made.json()["url"].as_str().unwrap().to_owned();
    // What stands behind # stays in the browser.
    let ticket = url.strip_prefix("http://127.0.0.1:7700/#ticket=").unwrap().to_owned();
    let json_type = (CONTENT_TYPE.as_str(), "application/json");
    let login = async |ticket: &str| {
        api.ask(Method::POST, "/login", &[json_type], &json!({ "ticket": ticket }).to_string()).await
    };
    let session = session_of(&login(&ticket).await);
    assert_eq!(show_as(&api, &session).await.status, StatusCode::OK);
    assert_eq!(show_as(&api, &ticket).await.status, StatusCode::UNAUTHORIZED);
    for bad in [ticket.as_str(), TOKEN, &session, ""] {
        let answer = login(bad).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::UNAUTHORIZED, "wrong-ticket"), "{bad}");
    }
    api.end().await;
}

#[tokio::test]
async fn a_sessions_stream_ends_with_it() {
    use futures::StreamExt as _;
    let api = Fixture::new().await;
    let json_type = (CONTENT_TYPE.as_str(), "application/json");
    let login = api.ask(Method::POST, "/login", &[json_type], &json!({ "token": TOKEN }).to_string()).await;
    let session = session_of(&login);
    let listen = async |token: &str| {
        let request = axum::http::Request::builder().uri("/api/v1/events").header(HOST, OWN);
        let request = request.header(AUTHORIZATION, format!("Bearer {token}")).body(Body::empty()).unwrap();
        api.router.clone().oneshot(request).await.unwrap().into_body().into_data_stream()
    };
    let (by_session, mut by_token) = (listen(&session).await, listen(TOKEN).await);
    assert_eq!(api.post_as(&session, "/logout", &json!({})).await.status, StatusCode::NO_CONTENT);
    let rest = tokio::time::timeout(std::time::Duration::from_secs(20), by_session.collect::<Vec<_>>()).await;
    assert!(rest.is_ok(), "the session's stream ends");
    api.post("/api/v1/agents", &json!({ "name": "heard", "type": "worker" })).await;
    let mut heard = String::new();
    while !heard.contains("agent.created") {
        heard.push_str(&String::from_utf8_lossy(&by_token.next().await.expect("the token's goes on").unwrap()));
    }
    drop(by_token);
    api.end().await;
}

#[tokio::test]
async fn the_page_carries_its_policy_and_no_inline_script() {
    let api = Fixture::new().await;
    let page = api.ask(Method::GET, "/", &[], "").await;
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for forbidden in ["<style", " style=", "onclick", "onsubmit", "http://", "https://", "//cdn"] {
        assert!(!page.text.contains(forbidden), "the page has `{forbidden}`");
    }
    let mut script = api.ask(Method::GET, "/assets/app.js", &[], "").await;
    script.text.push_str(&api.ask(Method::GET, "/assets/events.js", &[], "").await.text);
    for forbidden in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "document.cookie",
        "localStorage",
        "eval(",
        "new Function",
    ] {
        assert!(!script.text.contains(forbidden), "the script has `{forbidden}`");
    }
    for id in script.text.split("$(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(
            page.text.contains(&format!("id=\"{id}\"")),
            "the script looks for `{id}`, which the page does not have"
        );
    }
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    api.end().await;
}

/// Method, path, headers, body; status and code of the answer.
type Case<'a> = (Method, &'a str, Vec<(&'a str, &'a str)>, &'a str, u16, &'a str);

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let api = Fixture::new().await;
    let bearer = format!("Bearer {TOKEN}");
    let token = (AUTHORIZATION.as_str(), bearer.as_str());
    let json_type = (CONTENT_TYPE.as_str(), "application/json");
    let cases: [Case<'_>; 9] = [
        (Method::POST, "/api/v1/agents", vec![token], r#"{"name":"a","type":"worker"}"#, 415, "not-json"),
        (Method::POST, "/api/v1/agents", vec![token, json_type], "{", 400, "malformed-json"),
        (
            Method::POST,
            "/api/v1/agents",
            vec![token, json_type],
            r#"{"name":"a","type":"worker","x":1}"#,
            400,
            "invalid-body",
        ),
        (Method::POST, "/api/v1/agents", vec![token, json_type], r#"{"name":"","type":"worker"}"#, 422, "invalid-name"),
        (Method::GET, "/api/v1/tasks/nonsense", vec![token], "", 400, "invalid-id"),
        (Method::GET, "/api/v1/tasks?state=sleeping", vec![token], "", 400, "invalid-query"),
        (Method::GET, "/api/v1/campaigns/0190f3c2-7b1e-7c3a-9f00-0123456789ab", vec![token], "", 404, "not-found"),
        (Method::GET, "/api/v2/campaigns", vec![token], "", 404, "no-route"),
        (Method::DELETE, "/api/v1/campaigns", vec![token], "", 405, "no-method"),
    ];
    for (method, path, headers, body, status, code) in cases {
        let answer = api.ask(method, path, &headers, body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{path} {body}: {}", answer.text);
        assert_eq!(answer.json()["status"], status);
        assert_eq!(answer.json()["type"], format!("urn:chimera:problem:{code}"));
        assert_eq!(answer.headers[CONTENT_TYPE], "application/problem+json");
    }
    let large = format!(r#"{{"token":"{}"}}"#, "x".repeat(8192));
    let answer = api.ask(Method::POST, "/login", &[json_type], &large).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (413, "body-too-large"));
    api.end().await;
}

#[tokio::test]
async fn an_agents_token_opens_only_the_agents_routes() {
    let api = Fixture::new().await;
    let token = api.agent("outside", "worker").await;
    let refused = api.post_as(&token, "/api/v1/campaigns", &json!({ "goal": "x" })).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::FORBIDDEN, "operator-only"));
    let bearer = format!("Bearer {token}");
    let refused = api.ask(Method::GET, "/api/v1/events", &[(AUTHORIZATION.as_str(), &bearer)], "").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let unknown = json!({ "task_id": "0190f3c2-7b1e-7c3a-9f00-0123456789ab", "result": {}, "confidence": 1.0, "error_code": null });
    let passed = api.post_as(&token, "/report_result", &unknown).await;
    assert_eq!(passed.status, StatusCode::NOT_FOUND, "{}", passed.text);
    let listed = api.get("/api/v1/agents").await.text;
    assert!(listed.contains("outside") && !listed.contains(&token));
    api.end().await;
}

#[tokio::test]
async fn an_agents_tokens_are_taken_back_at_once_and_for_good() {
    let api = Fixture::new().await;
    let (first, other) = (api.agent("outside", "worker").await, api.agent("other", "worker").await);
    let listed = async || api.get("/api/v1/agents").await.json()["agents"].as_array().unwrap().clone();
    let outside = async || listed().await.into_iter().find(|agent| agent["name"] == "outside").unwrap();
    let id = outside().await["id"].as_str().unwrap().to_owned();
    let made = api.post(&format!("/api/v1/agents/{id}/token"), &json!({})).await.json();
    let second = made["token"].as_str().unwrap().to_owned();
    assert_eq!(outside().await["tokens"], 2);

    let lease = async |token: &str| api.post_as(token, "/api/v1/agents/lease", &json!({})).await;
    for token in [&first, &second, &other] {
        assert_eq!(lease(token).await.status, StatusCode::OK);
    }
    let bearer = format!("Bearer {TOKEN}");
    let revoke = async |id: &str| {
        let path = format!("/api/v1/agents/{id}/tokens");
        api.ask(Method::DELETE, &path, &[(AUTHORIZATION.as_str(), &bearer)], "").await
    };
    let taken = revoke(&id).await;
    assert_eq!((taken.status, taken.json()["revoked"].as_u64()), (StatusCode::OK, Some(2)), "{}", taken.text);
    for token in [&first, &second] {
        let refused = lease(token).await;
        assert_eq!((refused.status, refused.code().as_str()), (StatusCode::UNAUTHORIZED, "unauthenticated"));
    }
    assert_eq!(lease(&other).await.status, StatusCode::OK, "nobody else's");
    assert_eq!(outside().await["tokens"], 0);
    assert_eq!(revoke(&id).await.json()["revoked"], 0, "the same again changes nothing");
    let unknown = revoke("0190f3c2-7b1e-7c3a-9f00-0123456789ab").await;
    assert_eq!((unknown.status, unknown.code().as_str()), (StatusCode::NOT_FOUND, "not-found"), "{}", unknown.text);
    let by_agent = format!("Bearer {other}");
    let path = format!("/api/v1/agents/{id}/tokens");
    let refused = api.ask(Method::DELETE, &path, &[(AUTHORIZATION.as_str(), &by_agent)], "").await;
    assert_eq!(refused.code(), "operator-only");

    let events = api.get("/api/v1/audit").await.json()["events"].as_array().unwrap().clone();
    let revoked: Vec<_> = events.iter().filter(|event| event["action"] == "token.revoked").collect();
    assert_eq!(revoked.len(), 2);
    assert!(
        revoked.iter().all(|event| event["detail"]["agent"] == id.as_str() && event["detail"]["token"].is_string())
    );
    let third = api.post(&format!("/api/v1/agents/{id}/token"), &json!({})).await.json();
    assert_eq!(lease(third["token"].as_str().unwrap()).await.status, StatusCode::OK, "a new token is good");
    api.end().await;
}

#[tokio::test]
async fn tasks_are_leased_to_workers_only() {
    let api = Fixture::new().await;
    let lease = async |token: String| api.post_as(&token, "/api/v1/agents/lease", &json!({})).await;
    let by_worker = lease(api.agent("does", "worker").await).await;
    assert_eq!((by_worker.status, by_worker.text.as_str()), (StatusCode::OK, "null"));
    for role in ["planner", "judge"] {
        let refused = lease(api.agent(role, role).await).await;
        assert_eq!((refused.status, refused.code().as_str()), (StatusCode::FORBIDDEN, "workers-only"), "{role}");
    }
    let refused = lease(TOKEN.to_owned()).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::FORBIDDEN, "agents-only"));
    api.end().await;
}

#[tokio::test]
async fn the_audit_log_of_what_was_done_here_is_valid() {
    let api = Fixture::new().await;
    api.post("/api/v1/agents", &json!({ "name": "one", "type": "judge" })).await;
    let read = api.get("/api/v1/audit").await.json();
    let actions: Vec<&str> = read["events"].as_array().unwrap().iter().filter_map(|e| e["action"].as_str()).collect();
    assert!(actions.contains(&"agent.created"), "{actions:?}");
    let checked = api.get("/api/v1/audit/verify").await.json();
    assert_eq!(checked["valid"], true, "{checked}");
    assert_eq!(checked["chains"][0]["chain"], "system");
    let wrong = api.get("/api/v1/audit?campaign=nonsense").await;
    assert_eq!(wrong.code(), "invalid-id");
    api.end().await;
}

#[tokio::test]
async fn the_audit_log_of_a_campaign_that_is_not_there_is_not_found() {
    let api = Fixture::new().await;
    let unknown = "0190f3c2-7b1e-7c3a-9f00-0123456789ab";
    for path in ["/api/v1/audit", "/api/v1/audit/verify"] {
        let answer = api.get(&format!("{path}?campaign={unknown}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "not-found"), "{path}");
        assert_eq!(api.get(&format!("{path}?campaign=system")).await.status, StatusCode::OK);
    }
    let made = api.post("/api/v1/campaigns", &json!({ "goal": "Fold every paper crane in the drawer" })).await.json();
    let id = made["campaign"]["id"].as_str().unwrap().to_owned();
    let checked = api.get(&format!("/api/v1/audit/verify?campaign={id}")).await.json();
    assert_eq!(checked["valid"], true, "{checked}");
    api.end().await;
}

#[tokio::test]
async fn a_campaign_without_an_event_is_not_valid() {
    let api = Fixture::new().await;
    let made = api.post("/api/v1/campaigns", &json!({ "goal": "Fold every paper crane in the drawer" })).await.json();
    let whole = api.state.truth().campaign(made["campaign"]["id"].as_str().unwrap().parse().unwrap()).await.unwrap();
    // As it is after somebody removed its events and its head: the campaign alone.
    let mut bare = whole.unwrap();
    bare.id = chimera_core::ids::CampaignId::new(&chimera_core::ids::SystemIds);
    let mut change = chimera_core::change::Change::new();
    change.write(chimera_core::change::Write::PutCampaign(bare.clone()));
    api.state.commit(change).await.unwrap();
    for path in [format!("/api/v1/audit/verify?campaign={}", bare.id), "/api/v1/audit/verify".to_owned()] {
        let checked = api.get(&path).await.json();
        assert_eq!(checked["valid"], false, "{checked}");
        let chains = checked["chains"].as_array().unwrap();
        let chain = chains.iter().find(|chain| chain["chain"] == bare.id.to_string()).unwrap();
        assert!(chain["problem"].as_str().unwrap().contains("begins with an event"), "{chain}");
    }
    api.end().await;
}

#[tokio::test]
async fn what_is_no_id_or_no_name_is_told_in_plain_words() {
    let api = Fixture::new().await;
    let asked = [
        api.get("/api/v1/tasks?campaign=zz").await,
        api.get("/api/v1/events?campaign=zz").await,
        api.post("/api/v1/grants", &json!({ "skill": "a/b", "slot": "s", "server": "v", "campaign": "zz" })).await,
    ];
    for answer in asked {
        let detail = answer.json()["detail"].as_str().unwrap_or("").to_owned();
        assert!(detail.contains("`zz` is not a campaign id: expected a UUID"), "{detail}");
        assert!(!detail.contains("deserialize") && !detail.contains("column"), "{detail}");
    }
    let bad = api.post("/api/v1/grants", &json!({ "skill": "Bad", "slot": "s", "server": "v" })).await;
    let detail = bad.json()["detail"].as_str().unwrap_or("").to_owned();
    assert!(detail.contains("Bad") && !detail.contains("column"), "{detail}");
    let agent = json!({ "name": "one", "type": "worker" });
    api.post("/api/v1/agents", &agent).await;
    let taken = api.post("/api/v1/agents", &agent).await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
    assert!(taken.json()["fix"].as_str().unwrap().contains("another name"), "{}", taken.text);
    api.end().await;
}

#[tokio::test]
async fn a_grant_is_for_a_slot_or_for_a_call() {
    let api = Fixture::new().await;
    for (more, code) in [
        (json!({}), "grant-of-neither-kind"),
        (json!({ "slot": "s" }), "grant-of-neither-kind"),
        (json!({ "version": "*" }), "grant-of-neither-kind"),
        (json!({ "slot": "s", "server": "v", "version": "*" }), "grant-of-neither-kind"),
        (json!({ "callee": "a/c", "tools": {} }), "grant-of-both-kinds"),
        (json!({ "callee": "a/c", "slot": "s", "server": "v" }), "grant-of-both-kinds"),
        (json!({ "callee": "a/c", "version": "what" }), "invalid-body"),
        (json!({ "callee": "a/c", "expires_at": "soon" }), "invalid-body"),
        (json!({ "callee": "a/c", "version": "^1" }), "not-found"),
        (json!({ "slot": "s", "server": "v" }), "not-found"),
    ] {
        let mut body = json!({ "skill": "a/b" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = api.post("/api/v1/grants", &body).await;
        assert_eq!(answer.code(), code, "{body}: {}", answer.text);
    }
    for query in ["slot=s", "tool=t", "slot=s&tool=t&callee=a/c", ""] {
        let answer = api.get(&format!("/api/v1/grants/explain?skill=a/b&{query}")).await;
        assert_eq!(answer.code(), "invalid-query", "{query}: {}", answer.text);
    }
    assert_eq!(api.get("/api/v1/grants").await.json(), json!({ "grants": [] }));
    api.end().await;
}

#[tokio::test]
async fn a_component_that_is_none_is_refused_with_rule_evidence_and_fix() {
    let api = Fixture::new().await;
    let answer = api.post("/api/v1/skills", &json!("not wasm")).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let problem = answer.json();
    for field in ["rule", "evidence", "fix"] {
        assert!(!problem[field].as_str().unwrap_or("").is_empty(), "{problem}");
    }
    assert_eq!(api.get("/api/v1/skills/acme/none").await.status, StatusCode::NOT_FOUND);
    assert_eq!(api.get("/api/v1/search?q=trends").await.json(), json!({ "hits": [] }));
    assert_eq!(api.get("/api/v1/skills/compiling").await.json(), json!({ "compiling": [] }));
    api.end().await;
}

#[tokio::test]
async fn a_campaign_is_made_listed_and_stopped() {
    let api = Fixture::new().await;
    let goal = "Fold every paper crane in the drawer";
    let made = api.post("/api/v1/campaigns", &json!({ "goal": goal })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let id = made.json()["campaign"]["id"].as_str().unwrap().to_owned();
    let listed = api.get("/api/v1/campaigns").await.json();
    assert_eq!(listed["campaigns"][0]["id"], id.as_str());
    assert_eq!(listed["campaigns"][0]["goal"], goal);
    let ended = api.post(&format!("/api/v1/campaigns/{id}/cancel"), &json!({})).await;
    // The planner may have found at once that no skill can do it.
    assert!(matches!(ended.status, StatusCode::OK | StatusCode::CONFLICT), "{}", ended.text);
    let refused = api.post("/api/v1/campaigns", &json!({ "goal": "x", "color": "blue" })).await;
    assert_eq!(refused.code(), "invalid-body");
    let huge = api.post("/api/v1/campaigns", &json!({ "goal": "x".repeat(1 << 20) })).await;
    assert_eq!(huge.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", huge.text);
    api.end().await;
}

#[tokio::test]
async fn listeners_hear_of_commits_and_their_number_is_bounded() {
    let api = Fixture::new().await;
    let bearer = format!("Bearer {TOKEN}");
    let listen = || {
        let request =
            axum::http::Request::builder().uri("/api/v1/events").header(HOST, OWN).header(AUTHORIZATION, &bearer);
        api.router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let mut first = listen().await.unwrap().into_body().into_data_stream();
    let others: Vec<_> = futures::future::join_all((1..MAX_STREAMS).map(|_| listen())).await;
    assert!(others.iter().all(|response| response.as_ref().unwrap().status() == StatusCode::OK));
    assert_eq!(listen().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    drop(others);
    assert_eq!(listen().await.unwrap().status(), StatusCode::OK);
    let mut heard = String::new();
    let read = async {
        use futures::StreamExt as _;
        while !heard.contains("agent.created") {
            let chunk = first.next().await.unwrap().unwrap();
            heard.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    let agent = json!({ "name": "heard", "type": "worker" });
    let write = api.post("/api/v1/agents", &agent);
    let both = async { tokio::join!(read, write) };
    tokio::time::timeout(std::time::Duration::from_secs(20), both).await.unwrap();
    assert!(heard.contains("event: audit"), "{heard}");
    api.state.closing().cancel();
    {
        use futures::StreamExt as _;
        let rest = tokio::time::timeout(std::time::Duration::from_secs(20), first.collect::<Vec<_>>()).await;
        assert!(rest.is_ok(), "a closing server ends its streams");
    }
    api.end().await;
}

#[tokio::test]
async fn a_path_that_is_no_text_is_a_problem_like_any_other() {
    let api = Fixture::new().await;
    for path in ["/api/v1/skills/%ff/x", "/api/v1/skills/a/%ff", "/api/v1/mcp/servers/%ff/tools", "/api/v1/tasks/%ff"] {
        let answer = api.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "invalid-path"), "{path}");
    }
    api.end().await;
}

#[test]
fn a_problem_cannot_overwrite_its_own_members() {
    let problem = Problem::conflict("stale", "again").with("code", "other").with("rule", "r");
    let shown = problem.to_json();
    assert_eq!((shown["code"].as_str(), shown["rule"].as_str()), (Some("stale"), Some("r")));
}
