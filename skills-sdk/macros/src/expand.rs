//! Checks the annotated function's signature and writes the items that export it.
//! It never resolves types: what only the compiler can know is left to trait bounds with readable errors.
//! Called by the attribute in `lib.rs`, and by the tests below on token streams.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, GenericArgument, ItemFn, Path, PathArguments, Result, ReturnType, Type};

const SHAPE: &str = "a skill is written `fn name(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure>`";

/// Expands `#[skill]` or `#[skill(crate = path)]` on a function.
pub(crate) fn skill(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let krate = crate_path(attribute)?;
    let function: ItemFn = syn::parse2(item)
        .map_err(|error| Error::new(error.span(), format!("`#[skill]` goes on a function; {SHAPE}")))?;
    let input = check(&function)?;
    let name = &function.sig.ident;

    // The bound is checked where the author wrote the type, so the error points there.
    let input_check = quote_spanned! {input.span()=>
        #krate::__rt::assert_input::<#input>();
    };
    let output_check = match output_type(&function.sig.output) {
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

/// The path of the SDK: `::chimera_skill`, or what `crate = …` says.
fn crate_path(attribute: TokenStream) -> Result<Path> {
    if attribute.is_empty() {
        return Ok(syn::parse_quote!(::chimera_skill));
    }
    let span = attribute.span();
    let wrong = || Error::new(span, "`#[skill]` takes no argument, or `crate = path::to::chimera_skill`");
    // `crate` is a keyword, so this cannot be parsed as an ordinary `name = value` pair.
    let mut tokens = attribute.into_iter();
    let keyword = tokens.next().map(|token| token.to_string());
    let equals = tokens.next().map(|token| token.to_string());
    if keyword.as_deref() != Some("crate") || equals.as_deref() != Some("=") {
        return Err(wrong());
    }
    syn::parse2(tokens.collect()).map_err(|_| wrong())
}

/// Refuses what cannot be a skill; returns the type of the input.
fn check(function: &ItemFn) -> Result<&Type> {
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        return Err(Error::new(
            token.span(),
            "a skill is not `async`: calls of the context wait by themselves, and the host suspends the skill meanwhile",
        ));
    }
    if let Some(token) = &signature.unsafety {
        return Err(Error::new(token.span(), "a skill cannot be `unsafe`"));
    }
    if let Some(abi) = &signature.abi {
        return Err(Error::new(abi.span(), "a skill is an ordinary Rust function: the macro makes the export"));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new(
            signature.generics.params.span(),
            "a skill cannot be generic: its input and output have one JSON Schema each",
        ));
    }
    let arguments: Vec<&FnArg> = signature.inputs.iter().collect();
    if let Some(FnArg::Receiver(receiver)) = arguments.first() {
        return Err(Error::new(receiver.span(), "a skill is a free function, not a method"));
    }
    let [FnArg::Typed(context), FnArg::Typed(input)] = arguments.as_slice() else {
        let span = if arguments.is_empty() { signature.ident.span() } else { signature.inputs.span() };
        return Err(Error::new(span, format!("a skill takes exactly two arguments; {SHAPE}")));
    };
    match context.ty.as_ref() {
        Type::Reference(reference) if reference.mutability.is_some() => {}
        other => {
            return Err(Error::new(other.span(), "the first argument of a skill is `&mut Context`"));
        }
    }
    if let Type::Reference(reference) = input.ty.as_ref() {
        return Err(Error::new(reference.span(), "a skill owns its input: take it by value, without `&`"));
    }
    check_return(&signature.output, signature.ident.span())?;
    Ok(&input.ty)
}

/// Refuses a return type that is visibly wrong. An alias passes: the compiler sees through it, we cannot.
fn check_return(output: &ReturnType, name: Span) -> Result<()> {
    let ReturnType::Type(_, ty) = output else {
        return Err(Error::new(name, format!("a skill returns a result; {SHAPE}")));
    };
    let wrong = || Error::new(ty.span(), "a skill returns `Result<Outcome<Output>, Failure>`");
    let Type::Path(path) = ty.as_ref() else {
        return Err(wrong());
    };
    let Some(last) = path.path.segments.last() else {
        return Err(wrong());
    };
    if last.ident != "Result" {
        return Ok(());
    }
    match first_argument(&last.arguments) {
        Some(Type::Path(first)) if first.path.segments.last().is_some_and(|segment| segment.ident == "Outcome") => {
            Ok(())
        }
        _ => Err(wrong()),
    }
}

/// `Output` of `Result<Outcome<Output>, …>`, when it is spelled out.
fn output_type(output: &ReturnType) -> Option<&Type> {
    let ReturnType::Type(_, ty) = output else {
        return None;
    };
    let outcome = nested(ty, "Result")?;
    nested(outcome, "Outcome")
}

fn nested<'a>(ty: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident == name { first_argument(&last.arguments) } else { None }
}

fn first_argument(arguments: &PathArguments) -> Option<&Type> {
    let PathArguments::AngleBracketed(list) = arguments else {
        return None;
    };
    list.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
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
