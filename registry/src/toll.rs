//! Validates a component within bounds of work and time.
//!
//! A type that unfolds to a million leaves is some hundred bytes, and the validator compares it anew at every
//! instantiation, import and export: thirty-two megabytes of those take hours. So each of them is paid for, by the size
//! of its types, before the validator sees it. Nothing is compiled or run. Called by the inspection.

use crate::refusal::{Refusal, Rule};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentTypeId, ComponentValType,
};
use wasmparser::types::{Types, TypesRef};
use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExport, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentType, ComponentTypeDeclaration, ComponentTypeRef, FuncValidatorAllocations,
    Instance, InstanceTypeDeclaration, Parser, Payload, TypeBounds, ValidPayload, Validator, WasmFeatures,
};

/// Most leaves of types that a component may have compared. What compilers make has a few thousand.
const MAX_TOLL: u64 = 20_000_000;
/// Longest time that the validation may take.
const MAX_TIME: Duration = Duration::from_secs(20);

/// Validates the component; its types if it is valid.
pub(crate) fn validate(wasm: &[u8], features: WasmFeatures) -> Result<Types, Problem> {
    let until = Instant::now() + MAX_TIME;
    let mut validator = Validator::new_with_features(features);
    let (mut toll, mut functions, mut last) = (Toll::default(), Vec::new(), None);
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        if let Some(types) = validator.types(0) {
            toll.pay_for(&payload, types)?;
        }
        match validator.payload(&payload)? {
            ValidPayload::Func(function, body) => functions.push((function, body)),
            ValidPayload::End(types) => last = Some(types),
            _ => {}
        }
        in_time(until)?;
    }
    let mut kept = FuncValidatorAllocations::default();
    for (function, body) in functions {
        in_time(until)?;
        let mut validator = function.into_validator(kept);
        validator.validate(&body)?;
        kept = validator.into_allocations();
    }
    last.ok_or_else(|| Problem::Heavy("it has no end".to_owned()))
}

fn in_time(until: Instant) -> Result<(), Problem> {
    if Instant::now() < until {
        return Ok(());
    }
    Err(Problem::Heavy(format!("its validation took longer than {} s", MAX_TIME.as_secs())))
}

/// Why a component is not taken.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It is not valid.
    Invalid(wasmparser::Error),
    /// To find that out is too much work.
    Heavy(String),
}

impl From<wasmparser::Error> for Problem {
    fn from(error: wasmparser::Error) -> Self {
        Self::Invalid(error)
    }
}

/// The refusal of a component that is too much work.
pub(crate) fn too_heavy(why: &str) -> Refusal {
    Refusal::new(
        Rule::SizeLimit,
        format!("the component is too much work to validate: {why}"),
        "instantiate fewer components inside each other, and use smaller types between them",
    )
}

#[derive(Default)]
struct Toll {
    paid: u64,
    sizes: HashMap<ComponentAnyTypeId, u64>,
    /// The largest type so far: what a type counts for that cannot be looked up before it is validated.
    largest: u64,
}

impl Toll {
    fn pay(&mut self, units: u64) -> Result<(), Problem> {
        self.paid = self.paid.saturating_add(units);
        if self.paid <= MAX_TOLL {
            return Ok(());
        }
        Err(Problem::Heavy(format!("its parts compare types with more than {MAX_TOLL} leaves in all")))
    }

    fn pay_for(&mut self, payload: &Payload<'_>, types: TypesRef<'_>) -> Result<(), Problem> {
        match payload {
            Payload::ComponentTypeSection(section) => {
                let mut scopes = Scopes { types, first: types.component_type_count(), open: vec![Vec::new()] };
                for ty in section.clone() {
                    let size = self.declared(&ty?, &mut scopes)?;
                    scopes.put(size);
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    self.pay_for_instance(&instance?, types)?;
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    let size = self.referred(import?.ty, types)?;
                    self.pay(size)?;
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let size = self.exported(&export?, types)?;
                    self.pay(size)?;
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section.clone() {
                    let size = match function? {
                        CanonicalFunction::Lift { type_index, .. } => self.type_at(type_index, types)?,
                        CanonicalFunction::Lower { func_index, .. } => self.function_at(func_index, types)?,
                        _ => 1,
                    };
                    self.pay(size)?;
                }
            }
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    let size = match instance? {
                        Instance::Instantiate { module_index, .. } if module_index < count(types.module_count()) => {
                            let module = &types[types.module_at(module_index)];
                            module.imports.len() + module.exports.len() + 1
                        }
                        Instance::Instantiate { args, .. } => args.len() + 1,
                        Instance::FromExports(exports) => exports.len() + 1,
                    };
                    self.pay(size as u64)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn pay_for_instance(&mut self, instance: &ComponentInstance<'_>, types: TypesRef<'_>) -> Result<(), Problem> {
        let size = match instance {
            ComponentInstance::Instantiate { component_index, args } => {
                self.component_at(*component_index, types)?.saturating_add(args.len() as u64)
            }
            ComponentInstance::FromExports(exports) => {
                let mut size = 1_u64;
                for export in exports {
                    size = size.saturating_add(self.exported(export, types)?);
                }
                size
            }
        };
        self.pay(size)
    }

    fn exported(&mut self, export: &ComponentExport<'_>, types: TypesRef<'_>) -> Result<u64, Problem> {
        let own = match export.kind {
            ComponentExternalKind::Func => self.function_at(export.index, types)?,
            ComponentExternalKind::Type => self.type_at(export.index, types)?,
            ComponentExternalKind::Component => self.component_at(export.index, types)?,
            ComponentExternalKind::Instance if export.index < types.component_instance_count() => {
                self.size(types.component_instance_at(export.index).into(), types)?
            }
            ComponentExternalKind::Instance | ComponentExternalKind::Value => self.largest,
            ComponentExternalKind::Module => 1,
        };
        let ascribed = export.ty.map_or(Ok(0), |ty| self.referred(ty, types))?;
        Ok(own.saturating_add(ascribed).saturating_add(1))
    }

    fn referred(&mut self, ty: ComponentTypeRef, types: TypesRef<'_>) -> Result<u64, Problem> {
        match ty {
            ComponentTypeRef::Func(at)
            | ComponentTypeRef::Instance(at)
            | ComponentTypeRef::Component(at)
            | ComponentTypeRef::Type(TypeBounds::Eq(at))
            | ComponentTypeRef::Value(wasmparser::ComponentValType::Type(at)) => self.type_at(at, types),
            _ => Ok(1),
        }
    }

    fn type_at(&mut self, at: u32, types: TypesRef<'_>) -> Result<u64, Problem> {
        if at >= types.component_type_count() {
            return Ok(self.largest);
        }
        self.size(types.component_any_type_at(at), types)
    }

    fn function_at(&mut self, at: u32, types: TypesRef<'_>) -> Result<u64, Problem> {
        if at >= types.component_function_count() {
            return Ok(self.largest);
        }
        self.size(types.component_function_at(at).into(), types)
    }

    fn component_at(&mut self, at: u32, types: TypesRef<'_>) -> Result<u64, Problem> {
        if at >= types.component_count() {
            return Ok(self.largest);
        }
        let id: ComponentTypeId = types.component_at(at);
        self.size(id.into(), types)
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Types that the validator knows

    /// The leaves of a type, unfolded.
    fn size(&mut self, id: ComponentAnyTypeId, types: TypesRef<'_>) -> Result<u64, Problem> {
        if let Some(size) = self.sizes.get(&id) {
            return Ok(*size);
        }
        let mut size = 1_u64;
        let mut add = |more: u64| size = size.saturating_add(more);
        match id {
            ComponentAnyTypeId::Resource(_) => {}
            ComponentAnyTypeId::Defined(id) => {
                for part in parts_of(&types[id]) {
                    add(self.value(part, types)?);
                }
                add(labels_of(&types[id]));
            }
            ComponentAnyTypeId::Func(id) => {
                let function = &types[id];
                for part in function.params.iter().map(|(_, ty)| ty).chain(&function.result) {
                    add(self.value(part, types)?);
                }
            }
            ComponentAnyTypeId::Instance(id) => {
                for item in types[id].exports.values() {
                    add(self.entity(item.ty, types)?);
                }
            }
            ComponentAnyTypeId::Component(id) => {
                let component = &types[id];
                for item in component.imports.values().chain(component.exports.values()) {
                    add(self.entity(item.ty, types)?);
                }
            }
        }
        self.largest = self.largest.max(size);
        self.sizes.insert(id, size);
        Ok(size)
    }

    fn value(&mut self, ty: &ComponentValType, types: TypesRef<'_>) -> Result<u64, Problem> {
        self.pay(1)?;
        match ty {
            ComponentValType::Primitive(_) => Ok(1),
            ComponentValType::Type(id) => self.size((*id).into(), types),
        }
    }

    fn entity(&mut self, ty: ComponentEntityType, types: TypesRef<'_>) -> Result<u64, Problem> {
        self.pay(1)?;
        match ty {
            ComponentEntityType::Module(id) => Ok((types[id].imports.len() + types[id].exports.len() + 1) as u64),
            ComponentEntityType::Func(id) => self.size(id.into(), types),
            ComponentEntityType::Value(ty) => self.value(&ty, types),
            ComponentEntityType::Type { referenced, .. } => self.size(referenced, types),
            ComponentEntityType::Instance(id) => self.size(id.into(), types),
            ComponentEntityType::Component(id) => self.size(id.into(), types),
        }
    }

    // -----------------------------------------------------------------------------------------------------------------
    // Types that are being declared

    fn declared(&mut self, ty: &ComponentType<'_>, scopes: &mut Scopes<'_>) -> Result<u64, Problem> {
        let size = match ty {
            ComponentType::Defined(ty) => self.declared_value(ty, scopes)?,
            ComponentType::Func(function) => {
                let mut size = 1_u64;
                for part in function.params.iter().map(|(_, ty)| ty).chain(&function.result) {
                    size = size.saturating_add(self.part(part, scopes)?);
                }
                size
            }
            ComponentType::Instance(declarations) => {
                scopes.open.push(Vec::new());
                let mut size = 1_u64;
                for declaration in declarations {
                    let more = match declaration {
                        InstanceTypeDeclaration::CoreType(_) => 1,
                        InstanceTypeDeclaration::Type(ty) => self.declared_inside(ty, scopes)?,
                        InstanceTypeDeclaration::Alias(alias) => self.aliased(alias, scopes)?,
                        InstanceTypeDeclaration::Export { ty, .. } => self.spoken_of(*ty, scopes)?,
                    };
                    size = size.saturating_add(more);
                }
                scopes.open.pop();
                size
            }
            ComponentType::Component(declarations) => {
                scopes.open.push(Vec::new());
                let mut size = 1_u64;
                for declaration in declarations {
                    let more = match declaration {
                        ComponentTypeDeclaration::CoreType(_) => 1,
                        ComponentTypeDeclaration::Type(ty) => self.declared_inside(ty, scopes)?,
                        ComponentTypeDeclaration::Alias(alias) => self.aliased(alias, scopes)?,
                        ComponentTypeDeclaration::Export { ty, .. } => self.spoken_of(*ty, scopes)?,
                        ComponentTypeDeclaration::Import(import) => self.spoken_of(import.ty, scopes)?,
                    };
                    size = size.saturating_add(more);
                }
                scopes.open.pop();
                size
            }
            ComponentType::Resource { .. } => 1,
        };
        self.largest = self.largest.max(size);
        Ok(size)
    }

    fn declared_inside(&mut self, ty: &ComponentType<'_>, scopes: &mut Scopes<'_>) -> Result<u64, Problem> {
        let size = self.declared(ty, scopes)?;
        scopes.put(size);
        // It counts where it is imported or exported.
        Ok(1)
    }

    fn aliased(&mut self, alias: &ComponentAlias<'_>, scopes: &mut Scopes<'_>) -> Result<u64, Problem> {
        match alias {
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Type, count, index } => {
                let size = self.look_up(scopes, *count, *index)?;
                scopes.put(size);
            }
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Type, .. } => scopes.put(self.largest),
            _ => {}
        }
        self.pay(1)?;
        Ok(1)
    }

    /// An import or export inside a type: the validator walks the whole of what it names.
    fn spoken_of(&mut self, ty: ComponentTypeRef, scopes: &mut Scopes<'_>) -> Result<u64, Problem> {
        let size = match ty {
            ComponentTypeRef::Func(at)
            | ComponentTypeRef::Instance(at)
            | ComponentTypeRef::Component(at)
            | ComponentTypeRef::Type(TypeBounds::Eq(at))
            | ComponentTypeRef::Value(wasmparser::ComponentValType::Type(at)) => self.look_up(scopes, 0, at)?,
            _ => 1,
        };
        if matches!(ty, ComponentTypeRef::Type(_)) {
            scopes.put(size);
        }
        self.pay(size)?;
        Ok(size)
    }

    fn declared_value(
        &mut self,
        ty: &wasmparser::ComponentDefinedType<'_>,
        scopes: &Scopes<'_>,
    ) -> Result<u64, Problem> {
        use wasmparser::ComponentDefinedType as Declared;
        let (parts, labels): (Vec<&wasmparser::ComponentValType>, usize) = match ty {
            Declared::Record(fields) => (fields.iter().map(|(_, ty)| ty).collect(), 0),
            Declared::Variant(cases) => (cases.iter().filter_map(|case| case.ty.as_ref()).collect(), cases.len()),
            Declared::Tuple(parts) => (parts.iter().collect(), 0),
            Declared::List(part) | Declared::FixedLengthList(part, _) | Declared::Option(part) => (vec![part], 0),
            Declared::Map(key, value) => (vec![key, value], 0),
            Declared::Result { ok, err } => (ok.iter().chain(err).collect(), 0),
            Declared::Future(part) | Declared::Stream(part) => (part.iter().collect(), 0),
            Declared::Flags(labels) | Declared::Enum(labels) => (Vec::new(), labels.len()),
            Declared::Primitive(_) | Declared::Own(_) | Declared::Borrow(_) => (Vec::new(), 0),
        };
        let mut size = 1 + labels as u64;
        for part in parts {
            size = size.saturating_add(self.part(part, scopes)?);
        }
        Ok(size)
    }

    fn part(&mut self, ty: &wasmparser::ComponentValType, scopes: &Scopes<'_>) -> Result<u64, Problem> {
        self.pay(1)?;
        match ty {
            wasmparser::ComponentValType::Primitive(_) => Ok(1),
            wasmparser::ComponentValType::Type(at) => self.look_up(scopes, 0, *at),
        }
    }

    /// The size of a type that a declaration names: `count` scopes out.
    fn look_up(&mut self, scopes: &Scopes<'_>, count: u32, at: u32) -> Result<u64, Problem> {
        let innermost = scopes.open.len() - 1;
        let place = innermost.checked_sub(count as usize);
        match place {
            Some(0) if at < scopes.first => self.type_at(at, scopes.types),
            Some(0) => Ok(scopes.local(0, at - scopes.first).unwrap_or(self.largest)),
            Some(place) => Ok(scopes.local(place, at).unwrap_or(self.largest)),
            None => Ok(self.largest),
        }
    }
}

/// The types of a section that is not validated yet, and of the types inside it.
struct Scopes<'t> {
    types: TypesRef<'t>,
    /// The index of the section's first type.
    first: u32,
    open: Vec<Vec<u64>>,
}

impl Scopes<'_> {
    fn put(&mut self, size: u64) {
        if let Some(innermost) = self.open.last_mut() {
            innermost.push(size);
        }
    }

    fn local(&self, place: usize, at: u32) -> Option<u64> {
        self.open.get(place)?.get(at as usize).copied()
    }
}

fn parts_of(ty: &ComponentDefinedType) -> Vec<&ComponentValType> {
    match ty {
        ComponentDefinedType::Record(record) => record.fields.values().collect(),
        ComponentDefinedType::Variant(variant) => variant.cases.values().filter_map(|case| case.ty.as_ref()).collect(),
        ComponentDefinedType::Tuple(tuple) => tuple.types.iter().collect(),
        ComponentDefinedType::List { element, .. } | ComponentDefinedType::FixedLengthList { element, .. } => {
            vec![element]
        }
        ComponentDefinedType::Option { ty, .. } => vec![ty],
        ComponentDefinedType::Map { key, value, .. } => vec![key, value],
        ComponentDefinedType::Result { ok, err, .. } => ok.iter().chain(err).collect(),
        ComponentDefinedType::Future { ty, .. } | ComponentDefinedType::Stream { ty, .. } => ty.iter().collect(),
        ComponentDefinedType::Primitive(_)
        | ComponentDefinedType::Flags(_)
        | ComponentDefinedType::Enum(_)
        | ComponentDefinedType::Own(_)
        | ComponentDefinedType::Borrow(_) => Vec::new(),
    }
}

fn labels_of(ty: &ComponentDefinedType) -> u64 {
    match ty {
        ComponentDefinedType::Variant(variant) => variant.cases.len() as u64,
        ComponentDefinedType::Flags(labels) | ComponentDefinedType::Enum(labels) => labels.len() as u64,
        _ => 0,
    }
}

fn count(items: impl TryInto<u32>) -> u32 {
    items.try_into().unwrap_or(u32::MAX)
}
