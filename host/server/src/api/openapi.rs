//! `/openapi.json`: the document, made of the table of endpoints.
//!
//! It describes requests exactly; answers are described in words, as they are the nouns of `chimera_core` in JSON. Called
//! by the router, once.

use super::endpoint::Endpoint;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Paths};

/// The document of these endpoints.
pub(crate) fn document(endpoints: &[Endpoint]) -> OpenApi {
    let mut paths = Paths::new();
    let mut components = ComponentsBuilder::new().schema("Problem", problem_schema());
    for endpoint in endpoints {
        paths.add_path_operation(endpoint.path, vec![endpoint.document_method()], endpoint.operation());
        components = components.schemas_from_iter(endpoint.schemas());
    }
    let bearer = |description| {
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build())
    };
    let token = "The operator's token, or an agent's on the routes that agents may use";
    let session = "A session of the operator's, as `POST /login` gives one; `POST /logout` ends it";
    let components = components.security_scheme("token", bearer(token)).security_scheme("session", bearer(session));
    let info = InfoBuilder::new().title("Chimera").version(env!("CARGO_PKG_VERSION")).description(Some(
        "Goals become tasks, tasks run as sandboxed skills, verdicts fall, and humans decide the rest.",
    ));
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).build()
}

fn problem_schema() -> utoipa::openapi::Schema {
    let text =
        |description: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(description)).build();
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("type", text("`urn:chimera:problem:<code>`"))
        .property("title", text("The status in words"))
        .property("status", ObjectBuilder::new().schema_type(Type::Integer))
        .property("code", text("Stable kebab-case code"))
        .property("detail", text("What went wrong and what to do"))
        .required("type")
        .required("status")
        .required("code")
        .required("detail")
        .build()
        .into()
}
