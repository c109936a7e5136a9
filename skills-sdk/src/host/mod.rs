//! Where a call of the context goes: to the host on `wasm32`, to the recorded answers of a test elsewhere.
//! Both sides have the same methods, chosen when compiling; there is no trait object, so that the linker can
//! drop the imports that a skill never calls. Only `context.rs` uses it.

#[cfg(target_arch = "wasm32")]
mod guest;
#[cfg(target_arch = "wasm32")]
pub(crate) use guest::{Host, from_host};

#[cfg(not(target_arch = "wasm32"))]
mod native;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::Host;
