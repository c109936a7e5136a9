//! Writes the items that export an annotated function.
//! It never resolves types: what only the compiler can know is left to trait bounds with readable errors.
//! Called by the attributes in `lib.rs`, and by the tests below on token streams.

use crate::signature::{self, Kind};
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, ItemFn, Path, Result};

/// Expands `#[skill]` or `#[skill(crate = path)]` on a function.
pub(crate) fn skill(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let krate = crate_path(attribute, Kind::Skill)?;
    let function = parsed(item, Kind::Skill)?;
    let input = signature::check(&function, Kind::Skill)?;
    let name = &function.sig.ident;

    // The bound is checked where the author wrote the type, so the error points there.
    let input_check = quote_spanned! {input.span()=>
        #krate::__rt::assert_input::<#input>();
    };
    let output_check = match signature::output_type(&function.sig.output) {
        Some(output) => quote_spanned! {output.span()=>
            #krate::__rt::assert_output::<#output>();
        },
        None => TokenStream::new(),
    };

    Ok(quote! {
        #function

        const _: () = {
            #[allow(dead_code)]
            fn __chimera_check() {
                #input_check
                #output_check
                #krate::__rt::assert_skill(#name);
            }

            #[cfg(target_arch = "wasm32")]
            struct __ChimeraSkill;

            #[cfg(target_arch = "wasm32")]
            impl #krate::__rt::RunnerGuest for __ChimeraSkill {
                fn run(
                    task: #krate::__rt::WireTask,
                ) -> ::core::result::Result<#krate::__rt::WireOutcome, #krate::__rt::WireFailure> {
                    #krate::__rt::run(task, #name)
                }
            }

            #[cfg(target_arch = "wasm32")]
            impl #krate::__rt::DescribeGuest for __ChimeraSkill {
                fn describe() -> ::std::string::String {
                    #krate::__rt::describe_json(#name)
                }
            }

            #[cfg(target_arch = "wasm32")]
            #krate::__bindings::__export_skill!(__ChimeraSkill with_types_in #krate::__bindings);
        };
    })
}

/// Expands `#[judge]` or `#[judge(crate = path)]` on a function.
pub(crate) fn judge(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let krate = crate_path(attribute, Kind::Judge)?;
    let function = parsed(item, Kind::Judge)?;
    signature::check(&function, Kind::Judge)?;
    let name = &function.sig.ident;
    Ok(quote! {
        #function

        const _: () = {
            #[allow(dead_code)]
            fn __chimera_check() {
                #krate::__rt::assert_judge(#name);
            }

            #[cfg(target_arch = "wasm32")]
            struct __ChimeraJudge;

            #[cfg(target_arch = "wasm32")]
            impl #krate::__rt::EvaluatorGuest for __ChimeraJudge {
                fn evaluate(
                    judged: #krate::__rt::WireCase,
                ) -> ::core::result::Result<#krate::__rt::WireVerdict, #krate::__rt::WireFailure> {
                    #krate::__rt::evaluate(judged, #name)
                }
            }

            #[cfg(target_arch = "wasm32")]
            #krate::__bindings::judge::__export_judge!(__ChimeraJudge with_types_in #krate::__bindings::judge);
        };
    })
}

fn parsed(item: TokenStream, kind: Kind) -> Result<ItemFn> {
    syn::parse2(item)
        .map_err(|error| Error::new(error.span(), format!("`#[{}]` goes on a function; {}", kind.name(), kind.shape())))
}

/// The path of the SDK: `::chimera_skill`, or what `crate = …` says.
fn crate_path(attribute: TokenStream, kind: Kind) -> Result<Path> {
    if attribute.is_empty() {
        return Ok(syn::parse_quote!(::chimera_skill));
    }
    let span = attribute.span();
    let wrong =
        || Error::new(span, format!("`#[{}]` takes no argument, or `crate = path::to::chimera_skill`", kind.name()));
    // `crate` is a keyword, so this cannot be parsed as an ordinary `name = value` pair.
    let mut tokens = attribute.into_iter();
    let keyword = tokens.next().map(|token| token.to_string());
    let equals = tokens.next().map(|token| token.to_string());
    if keyword.as_deref() != Some("crate") || equals.as_deref() != Some("=") {
        return Err(wrong());
    }
    syn::parse2(tokens.collect()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(attribute: TokenStream, item: TokenStream) -> String {
        match skill(attribute, item) {
            Ok(tokens) => panic!("accepted: {tokens}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_good_function_is_kept_and_exported() {
        let item = quote! {
            /// Shouts.
            pub fn shout(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure> { body() }
        };
        let expanded = skill(quote!(), item.clone()).unwrap().to_string();
        assert!(expanded.starts_with(&item.to_string()), "{expanded}");
        assert!(expanded.contains(":: chimera_skill :: __bindings :: __export_skill !"), "{expanded}");
        assert!(expanded.contains("assert_input :: < Input >"), "{expanded}");
        assert!(expanded.contains("assert_output :: < Output >"), "{expanded}");
    }

    #[test]
    fn the_sdk_may_have_another_path() {
        let item = quote!(
            fn f(c: &mut Context, i: In) -> Result<Outcome<Out>, Failure> {
                x()
            }
        );
        let expanded = skill(quote!(crate = crate::sdk), item.clone()).unwrap().to_string();
        assert!(expanded.contains("crate :: sdk :: __rt :: run"), "{expanded}");
        for attribute in [quote!(name = "x"), quote!(crate), quote!(crate = 3)] {
            assert!(refused(attribute, item.clone()).contains("takes no argument"));
        }
    }

    #[test]
    fn a_judge_is_kept_and_exported() {
        let item = quote! {
            fn strict(ctx: &mut JudgeContext, case: Case) -> Result<Verdict, Failure> { body() }
        };
        let expanded = judge(quote!(crate = crate::sdk), item.clone()).unwrap().to_string();
        assert!(expanded.starts_with(&item.to_string()), "{expanded}");
        assert!(expanded.contains("crate :: sdk :: __bindings :: judge :: __export_judge !"), "{expanded}");
        let skill_like = quote! {
            fn f(c: &mut Context, i: In) -> Result<Outcome<Out>, Failure> { body() }
        };
        let refused = judge(quote!(), skill_like).unwrap_err().to_string();
        assert!(refused.contains("a judge returns `Result<Verdict, Failure>`"), "{refused}");
        let refused = judge(
            quote!(),
            quote!(
                fn f() {}
            ),
        )
        .unwrap_err()
        .to_string();
        assert!(refused.contains("ctx: &mut JudgeContext, case: Case"), "{refused}");
        let refused = judge(quote!(name = "x"), item).unwrap_err().to_string();
        assert!(refused.contains("`#[judge]` takes no argument"), "{refused}");
    }

    #[test]
    fn an_alias_of_the_result_is_left_to_the_compiler() {
        let item = quote!(
            fn f(c: &mut Context, i: In) -> Answer {
                x()
            }
        );
        let expanded = skill(quote!(), item).unwrap().to_string();
        assert!(!expanded.contains("assert_output"), "{expanded}");
        assert!(expanded.contains("assert_skill (f)"), "{expanded}");
    }

    #[test]
    fn each_wrong_signature_is_named() {
        let cases: Vec<(TokenStream, &str)> = vec![
            (
                quote!(
                    struct S;
                ),
                "goes on a function",
            ),
            (
                quote!(
                    async fn f(c: &mut Context, i: In) -> Result<Outcome<O>, Failure> {}
                ),
                "not `async`",
            ),
            (
                quote!(
                    unsafe fn f(c: &mut Context, i: In) -> Result<Outcome<O>, Failure> {}
                ),
                "cannot be `unsafe`",
            ),
            (
                quote!(
                    extern "C" fn f(c: &mut Context, i: In) -> Result<Outcome<O>, Failure> {}
                ),
                "ordinary Rust function",
            ),
            (
                quote!(
                    fn f<T>(c: &mut Context, i: T) -> Result<Outcome<O>, Failure> {}
                ),
                "cannot be generic",
            ),
            (
                quote!(
                    fn f(&self, i: In) -> Result<Outcome<O>, Failure> {}
                ),
                "not a method",
            ),
            (
                quote!(
                    fn f() -> Result<Outcome<O>, Failure> {}
                ),
                "exactly two arguments",
            ),
            (
                quote!(
                    fn f(i: In) -> Result<Outcome<O>, Failure> {}
                ),
                "exactly two arguments",
            ),
            (
                quote!(
                    fn f(c: &mut Context, i: In, j: In) -> Result<Outcome<O>, Failure> {}
                ),
                "exactly two arguments",
            ),
            (
                quote!(
                    fn f(c: &Context, i: In) -> Result<Outcome<O>, Failure> {}
                ),
                "`&mut Context`",
            ),
            (
                quote!(
                    fn f(c: Context, i: In) -> Result<Outcome<O>, Failure> {}
                ),
                "`&mut Context`",
            ),
            (
                quote!(
                    fn f(c: &mut Context, i: &In) -> Result<Outcome<O>, Failure> {}
                ),
                "by value",
            ),
            (
                quote!(
                    fn f(c: &mut Context, i: In) {}
                ),
                "returns a result",
            ),
            (
                quote!(
                    fn f(c: &mut Context, i: In) -> Result<O, Failure> {}
                ),
                "`Result<Outcome<Output>, Failure>`",
            ),
            (
                quote!(
                    fn f(c: &mut Context, i: In) -> (Out, f64) {}
                ),
                "`Result<Outcome<Output>, Failure>`",
            ),
        ];
        for (item, part) in cases {
            let message = refused(quote!(), item.clone());
            assert!(message.contains(part), "{item}\n  gave: {message}\n  not: {part}");
        }
    }
}
