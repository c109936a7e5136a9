//! What the signature of an annotated function must be, and one readable message for each way in which it is not.
//! It looks at tokens only and changes nothing; an alias passes, because only the compiler sees through it.
//! Called by the expansions.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Error, FnArg, GenericArgument, ItemFn, PathArguments, Result, ReturnType, Type};

/// What a function is to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It does tasks.
    Skill,
    /// It gives opinions on finished ones.
    Judge,
}

impl Kind {
    /// The attribute, and the word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Skill => "skill",
            Self::Judge => "judge",
        }
    }

    /// How it is written.
    pub(crate) const fn shape(self) -> &'static str {
        match self {
            Self::Skill => {
                "a skill is written `fn name(ctx: &mut Context, input: Input) -> Result<Outcome<Output>, Failure>`"
            }
            Self::Judge => {
                "a judge is written `fn name(ctx: &mut JudgeContext, case: Case) -> Result<Verdict, Failure>`"
            }
        }
    }

    const fn context(self) -> &'static str {
        match self {
            Self::Skill => "Context",
            Self::Judge => "JudgeContext",
        }
    }

    const fn second(self) -> &'static str {
        match self {
            Self::Skill => "input",
            Self::Judge => "case",
        }
    }

    const fn result(self) -> &'static str {
        match self {
            Self::Skill => "Result<Outcome<Output>, Failure>",
            Self::Judge => "Result<Verdict, Failure>",
        }
    }

    /// The type within the result.
    const fn returned(self) -> &'static str {
        match self {
            Self::Skill => "Outcome",
            Self::Judge => "Verdict",
        }
    }

    const fn why_not_generic(self) -> &'static str {
        match self {
            Self::Skill => "its input and output have one JSON Schema each",
            Self::Judge => "it is called with a case, whatever the skill was",
        }
    }
}

/// Refuses what cannot be of that kind; returns the type of the second argument.
pub(crate) fn check(function: &ItemFn, kind: Kind) -> Result<&Type> {
    let signature = &function.sig;
    let noun = kind.name();
    if let Some(token) = &signature.asyncness {
        return Err(Error::new(
            token.span(),
            format!(
                "a {noun} is not `async`: calls of the context wait by themselves, and the host suspends it meanwhile"
            ),
        ));
    }
    if let Some(token) = &signature.unsafety {
        return Err(Error::new(token.span(), format!("a {noun} cannot be `unsafe`")));
    }
    if let Some(abi) = &signature.abi {
        let message = format!("a {noun} is an ordinary Rust function: the macro makes the export");
        return Err(Error::new(abi.span(), message));
    }
    if !signature.generics.params.is_empty() {
        let message = format!("a {noun} cannot be generic: {}", kind.why_not_generic());
        return Err(Error::new(signature.generics.params.span(), message));
    }
    let arguments: Vec<&FnArg> = signature.inputs.iter().collect();
    if let Some(FnArg::Receiver(receiver)) = arguments.first() {
        return Err(Error::new(receiver.span(), format!("a {noun} is a free function, not a method")));
    }
    let [FnArg::Typed(context), FnArg::Typed(second)] = arguments.as_slice() else {
        let span = if arguments.is_empty() { signature.ident.span() } else { signature.inputs.span() };
        return Err(Error::new(span, format!("a {noun} takes exactly two arguments; {}", kind.shape())));
    };
    match context.ty.as_ref() {
        Type::Reference(reference) if reference.mutability.is_some() => {}
        other => {
            let message = format!("the first argument of a {noun} is `&mut {}`", kind.context());
            return Err(Error::new(other.span(), message));
        }
    }
    if let Type::Reference(reference) = second.ty.as_ref() {
        let message = format!("a {noun} owns its {}: take it by value, without `&`", kind.second());
        return Err(Error::new(reference.span(), message));
    }
    check_return(&signature.output, signature.ident.span(), kind)?;
    Ok(&second.ty)
}

/// Refuses a return type that is visibly wrong. An alias passes: the compiler sees through it, we cannot.
fn check_return(output: &ReturnType, name: Span, kind: Kind) -> Result<()> {
    let ReturnType::Type(_, ty) = output else {
        return Err(Error::new(name, format!("a {} returns a result; {}", kind.name(), kind.shape())));
    };
    let wrong = || Error::new(ty.span(), format!("a {} returns `{}`", kind.name(), kind.result()));
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
        Some(Type::Path(first))
            if first.path.segments.last().is_some_and(|segment| segment.ident == kind.returned()) =>
        {
            Ok(())
        }
        _ => Err(wrong()),
    }
}

/// `Output` of `Result<Outcome<Output>, …>`, when it is spelled out.
pub(crate) fn output_type(output: &ReturnType) -> Option<&Type> {
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
