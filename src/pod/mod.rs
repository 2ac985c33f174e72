//! Pods: from a manifest to its meaning, and from what happened to its status.
//!
//! One way through: [`manifest`] (what was written, strictly read) -> [`spec`] (what it means,
//! defaults applied) -> the sandbox and its containers, which leave [`status::ContainerRecord`]s ->
//! [`status`] (a pure function) -> [`print`]. [`quantity`], [`resources`] and [`expand`] are the
//! formulas in between. Everything named here is pure: no system calls, no clock, no files.

pub mod expand;
pub mod manifest;
pub mod print;
pub mod quantity;
pub mod resources;
pub mod spec;
pub mod status;
pub mod time;
