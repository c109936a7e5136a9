//! Embeddings from an endpoint that speaks OpenAI's `POST {base}/embeddings`, as many servers of models do.
//!
//! It sends texts to where the operator said and nowhere else (it follows no redirect), waits no longer than told, reads
//! no more of an answer than vectors can take, and never shows its key. Made by [`crate::Indexes`].

use super::{Embedder, Embedding, ModelName, Purpose, Vector, cut};
use async_trait::async_trait;
use chimera_core::digest::Digest;
use chimera_core::ports::{PortError, PortErrorKind};
use reqwest_with_tls::{Client, Response, StatusCode, Url, redirect};
use serde::Deserialize;
use serde_json::json;
use std::fmt;
use std::time::Duration;

/// Most texts of one request; more go in several, one after another.
const MAX_BATCH: usize = 64;
/// Longest text that is sent, in bytes.
const MAX_BYTES: usize = 16 * 1024;
/// Bytes of an answer for one number, at the most generous, and for everything around the numbers.
const BYTES_PER_NUMBER: usize = 32;
const BYTES_AROUND: usize = 64 * 1024;

/// Where the endpoint is and what it is asked for.
#[derive(Clone)]
pub struct EndpointOptions {
    /// The address before `/embeddings`, such as `http://127.0.0.1:8080/v1`.
    pub base: String,
    /// The model's name there.
    pub model: String,
    /// Numbers of a vector, 1 to [`Vector::MAX_DIMENSIONS`]; an answer of another length is refused.
    pub dimensions: usize,
    /// Sent as a bearer token.
    pub key: Option<String>,
    /// How long one request may take.
    pub timeout: Duration,
    /// The share of the likeness in a score, 0 to 1.
    pub share: f64,
    /// The cosine of texts that have nothing in common, which differs from model to model.
    pub unrelated: f32,
}

impl EndpointOptions {
    /// An endpoint without a key, with 10 s for a request.
    pub fn new(base: impl Into<String>, model: impl Into<String>, dimensions: usize) -> Self {
        let timeout = Duration::from_secs(10);
        Self { base: base.into(), model: model.into(), dimensions, key: None, timeout, share: 0.9, unrelated: 0.1 }
    }
}

impl fmt::Debug for EndpointOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An address may hold a password; a key is one.
        f.debug_struct("EndpointOptions")
            .field("model", &self.model)
            .field("dimensions", &self.dimensions)
            .field("has_key", &self.key.is_some())
            .finish_non_exhaustive()
    }
}

/// An endpoint that cannot be used as it was described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint for embeddings cannot be used: {0}")]
pub struct EndpointError(String);

/// An embedder behind HTTP. Cheap to share; nothing is sent before the first text.
pub struct Endpoint {
    client: Client,
    url: Url,
    options: EndpointOptions,
    name: ModelName,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("options", &self.options).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    index: usize,
    embedding: Vec<f32>,
}

impl Endpoint {
    /// An embedder of that endpoint.
    ///
    /// # Errors
    /// [`EndpointError`] when the address is no HTTP address, or a number is out of bounds.
    pub fn new(options: EndpointOptions) -> Result<Self, EndpointError> {
        let refused = |why: &str| EndpointError(why.to_owned());
        let url = Url::parse(&format!("{}/embeddings", options.base.trim_end_matches('/')))
            .map_err(|_| refused("its address is not one"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refused("its address must begin with http:// or https://"));
        }
        if !(1..=Vector::MAX_DIMENSIONS).contains(&options.dimensions) || options.model.is_empty() {
            return Err(refused("it needs a model's name and its number of dimensions"));
        }
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(options.timeout)
            .connect_timeout(options.timeout.min(Duration::from_secs(5)))
            .build()
            .map_err(|_| refused("no HTTP client can be made"))?;
        // Models of one name at two places may be two models. The address itself may be secret, so only its hash is told.
        let place = Digest::of(url.as_str().as_bytes()).hex();
        let name = ModelName::new(format!("{}/{}@{}", options.model, options.dimensions, &place[..12]));
        Ok(Self { client, url, options, name })
    }

    async fn ask(&self, texts: &[&str]) -> Result<Vec<Embedding>, PortError> {
        let sent: Vec<&str> =
            texts.iter().map(|text| if text.is_empty() { " " } else { cut(text, MAX_BYTES) }).collect();
        let body = json!({ "model": self.options.model, "input": sent, "encoding_format": "float" });
        let mut request = self.client.post(self.url.clone()).json(&body);
        if let Some(key) = &self.options.key {
            request = request.bearer_auth(key);
        }
        let answer = request.send().await.map_err(unreachable)?;
        if !answer.status().is_success() {
            return Err(refused(answer.status()));
        }
        let most = BYTES_AROUND + texts.len() * self.options.dimensions * BYTES_PER_NUMBER;
        let answer: Answer =
            serde_json::from_slice(&bounded(answer, most).await?).map_err(|_| wrong("something else than vectors"))?;
        let mut found: Vec<Option<Embedding>> = vec![None; texts.len()];
        for item in answer.data {
            let place = found.get_mut(item.index).ok_or_else(|| wrong("more vectors than texts"))?;
            if item.embedding.len() != self.options.dimensions {
                return Err(wrong("vectors of another length"));
            }
            *place = Some(Embedding::Dense(Vector::new(self.name.clone(), item.embedding)));
        }
        found.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| wrong("fewer vectors than texts"))
    }
}

async fn bounded(mut answer: Response, most: usize) -> Result<Vec<u8>, PortError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if bytes.len() + chunk.len() > most {
            return Err(wrong("far more than vectors take"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The error's own text would name the address, which may hold a password.
fn unreachable(error: reqwest_with_tls::Error) -> PortError {
    let what = if error.is_timeout() { "does not answer in time" } else { "cannot be reached" };
    PortError::new(PortErrorKind::Unavailable, format!("the endpoint for embeddings {what}"))
}

fn refused(status: StatusCode) -> PortError {
    let may_work_later = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let kind = if may_work_later { PortErrorKind::Unavailable } else { PortErrorKind::Permanent };
    PortError::new(kind, format!("the endpoint for embeddings answered with status {}", status.as_u16()))
}

fn wrong(what: &str) -> PortError {
    PortError::new(PortErrorKind::Permanent, format!("the endpoint for embeddings answered with {what}"))
}

#[async_trait]
impl Embedder for Endpoint {
    async fn embed(&self, texts: &[&str], _purpose: Purpose) -> Result<Vec<Embedding>, PortError> {
        let mut found = Vec::with_capacity(texts.len());
        for batch in texts.chunks(MAX_BATCH) {
            found.extend(self.ask(batch).await?);
        }
        Ok(found)
    }

    fn model(&self) -> &ModelName {
        &self.name
    }

    fn share(&self) -> f64 {
        self.options.share
    }

    fn unrelated(&self) -> f32 {
        self.options.unrelated
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may end with a panic")]

    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc;

    /// A real server for one connection: it gives these answers in order, and tells what it was sent.
    fn server(answers: Vec<(u16, String)>) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/v1/", listener.local_addr().unwrap());
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut buffer = [0_u8; 4096];
                loop {
                    let read = stream.read(&mut buffer).unwrap_or(0);
                    request.extend_from_slice(&buffer[..read]);
                    let text = String::from_utf8_lossy(&request).to_string();
                    let length = text
                        .to_lowercase()
                        .split("content-length: ")
                        .nth(1)
                        .map_or(0, |rest| rest.lines().next().unwrap().parse::<usize>().unwrap());
                    if read == 0 || text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length) {
                        let _ = tell.send(text);
                        break;
                    }
                }
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
                let _ = stream.write_all(format!("{head}Location: http://127.0.0.1:9/\r\n\r\n{body}").as_bytes());
            }
        });
        (base, told)
    }

    fn endpoint(base: String) -> Endpoint {
        let key = Some("very-secret".to_owned());
        let options = EndpointOptions { key, timeout: Duration::from_secs(5), ..EndpointOptions::new(base, "m", 2) };
        Endpoint::new(options).unwrap()
    }

    #[tokio::test]
    async fn vectors_come_back_in_the_order_of_the_texts() {
        let body =
            json!({ "data": [{ "index": 1, "embedding": [0.0, 2.0] }, { "index": 0, "embedding": [3.0, 4.0] }] });
        let (base, told) = server(vec![(200, body.to_string())]);
        let endpoint = endpoint(base);
        let found = endpoint.embed(&["a", ""], Purpose::Document).await.unwrap();
        let Embedding::Dense(first) = &found[0] else { panic!("not dense") };
        assert_eq!(first.values(), [0.6, 0.8]);
        assert_eq!(first.model(), endpoint.model());
        let request = told.recv().unwrap();
        assert!(request.starts_with("POST /v1/embeddings "), "{request}");
        assert!(request.to_lowercase().contains("authorization: bearer very-secret"));
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error_that_tells_no_secret() {
        let vectors = |list: serde_json::Value| (200, json!({ "data": list }).to_string());
        let cases = [
            ((500, "very-secret".to_owned()), PortErrorKind::Unavailable),
            ((429, String::new()), PortErrorKind::Unavailable),
            ((401, String::new()), PortErrorKind::Permanent),
            ((302, String::new()), PortErrorKind::Permanent),
            ((200, "very-secret".to_owned()), PortErrorKind::Permanent),
            (vectors(json!([])), PortErrorKind::Permanent),
            (vectors(json!([{ "index": 0, "embedding": [1.0] }])), PortErrorKind::Permanent),
            (vectors(json!([{ "index": 7, "embedding": [1.0, 0.0] }])), PortErrorKind::Permanent),
            ((200, " ".repeat(1 << 20)), PortErrorKind::Permanent),
        ];
        for (answer, wanted) in cases {
            let shown = format!("{answer:.60?}");
            let (base, _told) = server(vec![answer]);
            let error = endpoint(base).embed(&["a"], Purpose::Query).await.unwrap_err();
            assert_eq!(error.kind, wanted, "{shown}: {error}");
            assert!(!error.to_string().contains("secret") && !error.to_string().contains("127.0.0.1"), "{error}");
        }
        let error = endpoint("http://127.0.0.1:9/v1".to_owned()).embed(&["a"], Purpose::Query).await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Unavailable);
    }

    #[test]
    fn a_key_is_never_shown_and_nonsense_is_refused() {
        let endpoint = endpoint("http://user:very-secret@127.0.0.1:9/v1".to_owned());
        assert!(!format!("{endpoint:?}").contains("secret") && !endpoint.model().as_str().contains("secret"));
        for base in ["", "127.0.0.1", "file:///etc/passwd"] {
            assert!(Endpoint::new(EndpointOptions::new(base, "m", 2)).is_err(), "{base}");
        }
        assert!(Endpoint::new(EndpointOptions::new("http://localhost", "m", 0)).is_err());
        assert!(Endpoint::new(EndpointOptions::new("http://localhost", "", 2)).is_err());
    }
}
