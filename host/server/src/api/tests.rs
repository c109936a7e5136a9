//! The API over a real platform on an empty data folder, called in memory.

#![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

use super::*;
use crate::auth::{Auth, SESSION_COOKIE};
use crate::config::Config;
use crate::wiring::Platform;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, Method};
use serde_json::{Value, json};
use tower::ServiceExt as _;

const PORT: u16 = 7700;
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
        let auth = Auth::new(TOKEN, PORT).unwrap();
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
        let answer = api.ask(endpoint.method.clone(), &example(endpoint.path), &[("x-chimera", "1")], "").await;
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
            "/",
            "/assets/style.css",
            "/assets/app.js",
            "/assets/icon.svg",
            "/login",
            "/logout",
            "/healthz",
            "/readyz",
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
async fn wrong_credentials_do_not_open() {
    let api = Fixture::new().await;
    for header in ["Bearer wrong", "Bearer ", "Bearer", "Basic dXNlcjpwYXNz", TOKEN, &format!("Token {TOKEN}")] {
        let answer = api.ask(Method::GET, "/api/v1/session", &[(AUTHORIZATION.as_str(), header)], "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{header}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"chimera\"");
    }
    let cookie = format!("{SESSION_COOKIE}={TOKEN}");
    let answer = api.ask(Method::GET, "/api/v1/session", &[(COOKIE.as_str(), &cookie)], "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let answer = api.get("/api/v1/session").await;
    assert_eq!(answer.json(), json!({ "actor": "operator:local" }));
    api.end().await;
}

/// The `name=value` of the session that an answer sets.
fn session_of(answer: &Answer) -> String {
    let cookie = answer.headers[SET_COOKIE].to_str().unwrap();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains(TOKEN));
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_login_gives_a_session_and_a_session_needs_our_page() {
    let api = Fixture::new().await;
    let json_type = (CONTENT_TYPE.as_str(), "application/json");
    let wrong = api.ask(Method::POST, "/login", &[json_type], r#"{"token":"wrong"}"#).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (StatusCode::UNAUTHORIZED, "wrong-token"));
    let right = api.ask(Method::POST, "/login", &[json_type], &json!({ "token": TOKEN }).to_string()).await;
    assert_eq!(right.status, StatusCode::NO_CONTENT);
    let session = session_of(&right);
    let cookie = (COOKIE.as_str(), session.as_str());
    assert_eq!(api.ask(Method::GET, "/api/v1/session", &[cookie], "").await.status, StatusCode::OK);
    let agent = r#"{"name":"w","type":"worker"}"#;
    let bare = api.ask(Method::POST, "/api/v1/agents", &[cookie, json_type], agent).await;
    assert_eq!((bare.status, bare.code().as_str()), (StatusCode::FORBIDDEN, "forgery-suspected"));
    let foreign = [cookie, json_type, ("x-chimera", "1"), ("sec-fetch-site", "same-site")];
    assert_eq!(api.ask(Method::POST, "/api/v1/agents", &foreign, agent).await.code(), "forgery-suspected");
    let other_port = [cookie, json_type, (ORIGIN.as_str(), "http://127.0.0.1:9999")];
    assert_eq!(api.ask(Method::POST, "/api/v1/agents", &other_port, agent).await.code(), "wrong-origin");
    let ours = [cookie, json_type, (ORIGIN.as_str(), "http://127.0.0.1:7700"), ("sec-fetch-site", "same-origin")];
    assert_eq!(api.ask(Method::POST, "/api/v1/agents", &ours, agent).await.status, StatusCode::CREATED);
    api.end().await;
}

#[tokio::test]
async fn a_link_logs_in_once() {
    let api = Fixture::new().await;
    let made = api.post("/api/v1/session/links", &json!({})).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let url = made.json()["url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix("http://127.0.0.1:7700").unwrap();
    let first = api.ask(Method::GET, path, &[], "").await;
    assert_eq!((first.status, first.headers[LOCATION].to_str().unwrap()), (StatusCode::SEE_OTHER, "/"));
    let session = session_of(&first);
    let answer = api.ask(Method::GET, "/api/v1/session", &[(COOKIE.as_str(), &session)], "").await;
    assert_eq!(answer.status, StatusCode::OK);
    let second = api.ask(Method::GET, path, &[], "").await;
    assert_eq!(second.status, StatusCode::SEE_OTHER);
    assert!(!second.headers.contains_key(SET_COOKIE));
    let token_as_ticket = api.ask(Method::GET, &format!("/?token={TOKEN}"), &[], "").await;
    assert!(!token_as_ticket.headers.contains_key(SET_COOKIE));
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
    let script = api.ask(Method::GET, "/assets/app.js", &[], "").await;
    for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
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
