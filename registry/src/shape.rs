//! The shapes of the functions that a component exports, as its bytes declare them.
//!
//! A component can call anything `runner`; only its type says whether it can be called as one. Types are written out
//! as text of bounded length (a hostile type can be exponentially large when written out) and compared. Called by
//! [`crate::inspect`].

use semver::Version;
use std::fmt::Write as _;
use wasmparser::component_types::{ComponentDefinedType, ComponentEntityType, ComponentFuncTypeId, ComponentValType};
use wasmparser::types::TypesRef;

/// Longest shape that is written out, in bytes; the contract's are below 400.
const MAX_SHAPE: usize = 1024;

/// The records that changed from one version of the contract to another.
struct Records {
    task: &'static str,
    failure: &'static str,
}

const V0_1: Records = Records {
    task: "record{id:string,campaign:option<string>,input:string,time-left-ms:u64}",
    failure: "record{kind:enum{invalid-input,transient,permanent,denied},code:string,message:string,\
        retry-after-ms:option<u64>}",
};

const V0_2: Records = Records {
    task: "record{id:string,campaign:option<string>,input:string,time-left-ms:u64,limits:record{time-ms:u64,fuel:u64,\
        memory-mb:u32,output-kb:u32,mcp-calls:u32}}",
    failure: "record{kind:enum{invalid-input,transient,permanent,denied},code:string,message:string,\
        retry-after-ms:option<u64>,details:option<string>}",
};

/// The function of an interface of the contract in this served version, and its shape.
pub(crate) fn wanted(interface: &str, version: &Version) -> Option<(&'static str, String)> {
    let Records { task, failure } = match (version.major, version.minor) {
        (0, 1) => V0_1,
        (0, 2) => V0_2,
        _ => return None,
    };
    match interface {
        "runner" => Some((
            "run",
            format!(
                "func(task:{task})->result<record{{output:string,confidence:f64,evidence:list<string>}},{failure}>"
            ),
        )),
        "evaluator" => Some((
            "evaluate",
            format!(
                "func(judged:record{{goal:string,skill:string,input:string,output:string,confidence:f64,\
                 evidence:list<string>}})->result<record{{decision:enum{{approve,retry,replan,escalate,reject}},\
                 confidence:f64,reason:string}},{failure}>"
            ),
        )),
        "describe" => Some(("describe", "func()->string".to_owned())),
        _ => None,
    }
}

/// The shape of a function of an exported instance; none if the instance has no such function.
pub(crate) fn exported(types: TypesRef<'_>, instance: &str, function: &str) -> Option<String> {
    let ComponentEntityType::Instance(id) = types.component_item_for_export(instance)?.ty else { return None };
    match types[id].exports.get(function)?.ty {
        ComponentEntityType::Func(id) => Some(Writer { types, out: String::new() }.function(id)),
        _ => None,
    }
}

struct Writer<'t> {
    types: TypesRef<'t>,
    out: String,
}

impl Writer<'_> {
    fn function(mut self, id: ComponentFuncTypeId) -> String {
        let types = self.types;
        let function = &types[id];
        self.out.push_str(if function.async_ { "async func(" } else { "func(" });
        self.named(function.params.iter().map(|(name, ty)| (name.as_str(), ty)));
        self.out.push(')');
        if let Some(result) = &function.result {
            self.out.push_str("->");
            self.value(result);
        }
        self.out
    }

    fn is_full(&self) -> bool {
        self.out.len() >= MAX_SHAPE
    }

    fn named<'v>(&mut self, items: impl Iterator<Item = (&'v str, &'v ComponentValType)>) {
        for (number, (name, ty)) in items.enumerate() {
            if self.is_full() {
                return;
            }
            let comma = if number > 0 { "," } else { "" };
            // Writing to a string cannot fail.
            let _ = write!(self.out, "{comma}{name}:");
            self.value(ty);
        }
    }

    fn value(&mut self, ty: &ComponentValType) {
        if self.is_full() {
            return;
        }
        match ty {
            ComponentValType::Primitive(primitive) => {
                let _ = write!(self.out, "{primitive}");
            }
            ComponentValType::Type(id) => {
                let types = self.types;
                self.defined(&types[*id]);
            }
        }
    }

    fn defined(&mut self, ty: &ComponentDefinedType) {
        match ty {
            ComponentDefinedType::Primitive(primitive) => self.value(&ComponentValType::Primitive(*primitive)),
            ComponentDefinedType::Record(record) => {
                self.out.push_str("record{");
                self.named(record.fields.iter().map(|(name, ty)| (name.as_str(), ty)));
                self.out.push('}');
            }
            ComponentDefinedType::Enum(cases) => {
                let cases: Vec<&str> = cases.iter().take(64).map(|case| case.as_str()).collect();
                let _ = write!(self.out, "enum{{{}}}", cases.join(","));
            }
            ComponentDefinedType::Option { ty, .. } => self.around("option<", Some(ty), None, ">"),
            ComponentDefinedType::List { element, .. } => self.around("list<", Some(element), None, ">"),
            ComponentDefinedType::Result { ok, err, .. } => self.around("result<", ok.as_ref(), err.as_ref(), ">"),
            _ => self.out.push_str("(something else)"),
        }
    }

    fn around(&mut self, open: &str, a: Option<&ComponentValType>, b: Option<&ComponentValType>, close: &str) {
        self.out.push_str(open);
        match a {
            Some(ty) => self.value(ty),
            None => self.out.push('_'),
        }
        if let Some(ty) = b {
            self.out.push(',');
            self.value(ty);
        }
        self.out.push_str(close);
    }
}
