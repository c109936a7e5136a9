//! The attribute macros that turn one typed function into the exports of a skill or a judge.
//! They never look at the function's body and never change it; they only add items beside it.
//! Authors reach them as `chimera_skill::skill` and `chimera_skill::judge`; nothing else calls them.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may end with a panic"))]

mod expand;
mod signature;

/// Makes a function the skill of its crate. See the documentation of `chimera_skill`.
#[proc_macro_attribute]
pub fn skill(attribute: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::skill(attribute.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a function the judge of its crate. See the documentation of `chimera_skill`.
#[proc_macro_attribute]
pub fn judge(attribute: proc_macro::TokenStream, item: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::judge(attribute.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
