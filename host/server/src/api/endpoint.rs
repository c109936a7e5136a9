//! What an endpoint is: one value that both the router and `/openapi.json` are made of.
//!
//! So no route can be missing from the document, and none can be reached without the access it says. It handles no
//! request itself. Called by the table of endpoints.

use crate::auth;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, RefOr, Required, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

/// Largest JSON body in bytes where an endpoint says nothing else.
const BODY_LIMIT: usize = 2 * 1024 * 1024;

/// Who may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody on this machine.
    Public,
    /// The operator.
    Operator,
    /// The operator and agents with a token.
    Agent,
}

/// A request's body in the document.
struct Payload {
    kind: &'static str,
    schema: RefOr<Schema>,
    parts: Vec<(String, RefOr<Schema>)>,
}

/// One method of one path.
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    summary: &'static str,
    query: &'static [(&'static str, &'static str)],
    payload: Option<Payload>,
    success: (u16, &'static str),
    produces: &'static str,
    body_limit: usize,
    handler: MethodRouter<super::AppState>,
}

impl Endpoint {
    fn new<H, T>(method: Method, filter: MethodFilter, path: &'static str, access: Access, handler: H) -> Self
    where
        H: Handler<T, super::AppState>,
        T: 'static,
    {
        Self {
            method,
            path,
            access,
            summary: "",
            query: &[],
            payload: None,
            success: (200, "OK"),
            produces: "application/json",
            body_limit: BODY_LIMIT,
            handler: on(filter, handler),
        }
    }

    pub(crate) fn get<H: Handler<T, super::AppState>, T: 'static>(
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        Self::new(Method::GET, MethodFilter::GET, path, access, handler)
    }

    pub(crate) fn post<H: Handler<T, super::AppState>, T: 'static>(
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        Self::new(Method::POST, MethodFilter::POST, path, access, handler)
    }

    pub(crate) fn delete<H: Handler<T, super::AppState>, T: 'static>(
        path: &'static str,
        access: Access,
        handler: H,
    ) -> Self {
        Self::new(Method::DELETE, MethodFilter::DELETE, path, access, handler)
    }

    /// What it does, in a sentence.
    pub(crate) fn does(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    /// Its query's parameters, each with its meaning; all are optional unless the meaning says "required".
    pub(crate) fn asks(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    /// Its JSON body.
    pub(crate) fn takes<T: ToSchema>(mut self) -> Self {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        self.payload = Some(Payload { kind: "application/json", schema: <T as PartialSchema>::schema(), parts });
        self
    }

    /// Its JSON body, of a type whose fields are described in words.
    pub(crate) fn takes_object(mut self, description: &'static str) -> Self {
        let schema = ObjectBuilder::new().schema_type(Type::Object).description(Some(description)).build();
        self.payload = Some(Payload { kind: "application/json", schema: schema.into(), parts: Vec::new() });
        self
    }

    /// Its body of bytes, at most `limit`.
    pub(crate) fn takes_bytes(mut self, kind: &'static str, limit: usize) -> Self {
        let schema = ObjectBuilder::new().schema_type(Type::String).build();
        self.payload = Some(Payload { kind, schema: schema.into(), parts: Vec::new() });
        self.limit(limit)
    }

    /// The largest body in bytes.
    pub(crate) fn limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// What it answers when all is well.
    pub(crate) fn gives(mut self, status: u16, description: &'static str) -> Self {
        self.success = (status, description);
        self
    }

    /// The content type of what it answers, if that is not JSON.
    pub(crate) fn produces(mut self, content_type: &'static str) -> Self {
        self.produces = content_type;
        self
    }

    /// The route with its layers: who may, and how much.
    pub(crate) fn into_route(self, state: &super::AppState) -> (&'static str, MethodRouter<super::AppState>) {
        let bounded = self.handler.layer(DefaultBodyLimit::max(self.body_limit));
        let guarded = match self.access {
            Access::Public => bounded,
            Access::Operator => bounded.route_layer(from_fn_with_state(state.clone(), auth::require_operator)),
            Access::Agent => bounded.route_layer(from_fn_with_state(state.clone(), auth::require_caller)),
        };
        (self.path, guarded)
    }

    /// The method as the document's builder names it.
    pub(crate) fn document_method(&self) -> HttpMethod {
        match self.method {
            Method::POST => HttpMethod::Post,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        }
    }

    /// The named schemas that its body refers to.
    pub(crate) fn schemas(&self) -> Vec<(String, RefOr<Schema>)> {
        self.payload.as_ref().map(|payload| payload.parts.clone()).unwrap_or_default()
    }

    /// The operation in the document.
    pub(crate) fn operation(&self) -> OperationBuilder {
        let tag = self.path.strip_prefix("/api/v1/").and_then(|rest| rest.split('/').next()).unwrap_or("platform");
        let (status, description) = self.success;
        let mut success = ResponseBuilder::new().description(description);
        if status != 204 && status != 303 {
            success = success.content(self.produces, Content::new(None::<RefOr<Schema>>));
        }
        let problem = ResponseBuilder::new()
            .description("What went wrong, as problem details with a stable `code` (RFC 9457)")
            .content("application/problem+json", Content::new(Some(utoipa::openapi::Ref::from_schema_name("Problem"))));
        let mut operation = OperationBuilder::new()
            .operation_id(Some(format!("{} {}", self.method, self.path)))
            .summary(Some(self.summary))
            .tag(tag)
            .response(status.to_string(), success)
            .response("default", problem);
        for name in parameters(self.path) {
            operation = operation.parameter(text_parameter(name, ParameterIn::Path, Required::True));
        }
        for (name, meaning) in self.query {
            let required = if meaning.starts_with("required") { Required::True } else { Required::False };
            operation =
                operation.parameter(text_parameter(name, ParameterIn::Query, required).description(Some(*meaning)));
        }
        if let Some(payload) = &self.payload {
            let body = RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content(payload.kind, Content::new(Some(payload.schema.clone())));
            operation = operation.request_body(Some(body.build()));
        }
        if self.access != Access::Public {
            for scheme in ["token", "session"] {
                operation = operation.security(SecurityRequirement::new(scheme, Vec::<String>::new()));
            }
        }
        operation
    }
}

fn text_parameter(name: &str, place: ParameterIn, required: Required) -> ParameterBuilder {
    let schema = ObjectBuilder::new().schema_type(Type::String).build();
    ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(schema))
}

/// The names in braces of a path.
pub(crate) fn parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')))
}
