//! The attribute macro that turns one typed function into the exports of a skill.
//! It never looks at the function's body and never changes it; it only adds items beside it.
//! Authors reach it as `chimera_skill::skill`; nothing else calls it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may end with a panic"))]

mod expand;

/// Makes a function the skill of its crate. See the documentation of `chimera_skill`.
#[proc_macro_attribute]
pub fn skill(attribute: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::skill(attribute.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
